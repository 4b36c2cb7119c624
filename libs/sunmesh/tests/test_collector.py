import json

import pytest
from sunmesh.collector import Family, decode_lines, hex_bytes, main
from sunmesh.errors import FrameError, TransportError


def decode(request):
    data = hex_bytes(request["hex"], "hex")
    if not data:
        raise FrameError("truncated", "no bytes")
    return {"values": {"pv_power_w": data[0]}}


def no_device(_options):
    raise TransportError("/dev/none does not exist; is the adapter plugged in?")


FAMILY = Family(
    name="collector-example",
    version="1.0",
    about="An example.",
    pollers=lambda site, mesh: [],
    decode=decode,
    decode_arguments=lambda parser: parser.add_argument("--hex", required=False) and None,
    decode_request=lambda options: {"hex": options.hex},
    probe_arguments=lambda parser: None,
    probe=no_device,
    record_arguments=lambda parser: None,
    record=no_device,
    emulate_arguments=lambda parser: None,
    emulate=lambda options, stop: 0,
)


def test_decode_prints_one_object(capsys):
    assert main(FAMILY, ["decode", "--hex", "2a"]) == 0
    assert json.loads(capsys.readouterr().out) == {"values": {"pv_power_w": 42}}


def test_a_bad_frame_is_one_line_and_status_1(capsys):
    assert main(FAMILY, ["decode", "--hex", ""]) == 1
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err == "collector-example: truncated: no bytes\n"


def test_each_line_gets_a_line_whatever_it_is():
    lines = ['{"hex":"07"}', "", "no JSON", "[1]", '{"hex":"zz"}', "{}", '{"hex":""}']
    answers = [json.loads(line) for line in decode_lines(FAMILY, lines)]
    assert answers[0] == {"values": {"pv_power_w": 7}}
    assert [answer["error"] for answer in answers[1:]] == ["shape"] * 4 + ["truncated"]
    assert all(answer["detail"] for answer in answers[1:])


def test_a_verb_that_fails_is_one_line_and_status_1(capsys):
    assert main(FAMILY, ["probe"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_run_without_a_device_says_what_to_add(site_file):
    from sunmesh.errors import ConfigError

    with pytest.raises(ConfigError, match=r"add a table \[devices.NAME\]"):
        main(FAMILY, ["run", "--config", str(site_file(""))])


@pytest.mark.parametrize("verb", ["run", "probe", "decode", "record", "emulate"])
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main(FAMILY, [verb, "--help"])
    assert end.value.code == 0
    assert "usage: collector-example" in capsys.readouterr().out
