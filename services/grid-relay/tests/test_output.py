"""The back ends. Without GPIO here, the package's own objects stand for the kernel's."""

import errno
import inspect
import threading

import gpiod
import pytest
from gpiod.line import Bias, Direction, Value
from grid_relay import output
from grid_relay.config import FeedbackTable, OutputTable
from grid_relay.output import FileInput, FileOutput, Line, NoOutput, find_chip, outlives_process
from sunmesh.errors import TransportError


class Request:
    """What ``gpiod.request_lines`` returns, as far as it is used."""

    def __init__(self, path, settings, consumer):
        self.path, self.settings, self.consumer = path, settings, consumer
        self.value = settings.output_value
        self.history = [self.value]
        self.is_released = False
        self.problem = None

    def set_value(self, line, value):
        if self.problem:
            raise self.problem
        self.value = value
        self.history.append(value)

    def get_value(self, line):
        if self.problem:
            raise self.problem
        return self.value

    def release(self):
        self.is_released = True


@pytest.fixture
def requests(monkeypatch):
    """Every request that was made, checked against the signatures of the package."""
    made = []
    signature = inspect.signature(gpiod.request_lines)
    real = gpiod.LineRequest
    for name in ("set_value", "get_value", "release"):
        ours = list(inspect.signature(getattr(Request, name)).parameters)
        assert ours == list(inspect.signature(getattr(real, name)).parameters)

    def request_lines(*arguments, **options):
        bound = signature.bind(*arguments, **options).arguments
        ((line, settings),) = bound["config"].items()
        assert isinstance(line, int)
        assert isinstance(settings, gpiod.LineSettings)
        made.append(Request(bound["path"], settings, bound["consumer"]))
        return made[-1]

    monkeypatch.setattr(gpiod, "request_lines", request_lines)
    return made


@pytest.fixture
def chips(monkeypatch, tmp_path):
    """A /dev with GPIO chips of these labels."""

    def chips(**labels):
        class Chip:
            def __init__(self, path):
                self.label = labels[path.rsplit("/", 1)[1]]
                if isinstance(self.label, OSError):
                    raise self.label

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def get_info(self):
                return self

        for name in labels:
            (tmp_path / name).touch()
        monkeypatch.setattr(output, "DEVICES", tmp_path)
        monkeypatch.setattr(gpiod, "is_gpiochip_device", lambda path: "gpiochip" in path)
        monkeypatch.setattr(gpiod, "Chip", Chip)
        return tmp_path

    return chips


def test_the_output_is_in_its_place_by_the_request_that_makes_it_one(requests):
    Line("/dev/gpiochip0", 26, active_low=True, output=False)
    (request,) = requests
    assert (request.path, request.consumer) == ("/dev/gpiochip0", "sunmesh grid-relay")
    assert request.settings.direction is Direction.OUTPUT
    assert request.settings.active_low is True
    assert request.settings.output_value is Value.INACTIVE
    assert request.history == [Value.INACTIVE]


def test_a_line_is_driven_and_read_back(requests):
    line = Line("/dev/gpiochip0", 26, active_low=False, output=True)
    assert line.read() is True
    line.drive(False)
    assert line.read() is False
    assert requests[0].history == [Value.ACTIVE, Value.INACTIVE]
    line.close()
    assert requests[0].is_released


def test_an_input_takes_its_pull(requests):
    table = FeedbackTable(by="gpiod", chip="/dev/gpiochip0", line=20)
    assert output.open_feedback(table).read() is False
    assert requests[0].settings.direction is Direction.INPUT
    assert requests[0].settings.bias is Bias.PULL_UP
    assert requests[0].settings.active_low is True


@pytest.mark.parametrize("bias", ["as_is", "pull_up", "pull_down", "disabled"])
def test_every_pull_of_the_settings_is_one_of_the_package(requests, bias):
    Line("/dev/gpiochip0", 20, active_low=False, bias=bias)
    assert requests[0].settings.bias is Bias[bias.upper()]


def test_what_the_kernel_says_is_told(requests):
    line = Line("/dev/gpiochip0", 26, active_low=False, output=False)
    requests[0].problem = OSError(errno.EIO, "Input/output error")
    for call in (line.read, lambda: line.drive(True)):
        with pytest.raises(TransportError, match="Input/output"):
            call()


def test_a_line_that_another_program_holds(monkeypatch):
    def busy(*_, **__):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(gpiod, "request_lines", busy)
    with pytest.raises(TransportError, match="line 26 of /dev/gpiochip0: .*busy"):
        Line("/dev/gpiochip0", 26, active_low=False, output=False)


def test_the_real_package_on_a_machine_without_that_chip():
    with pytest.raises(TransportError, match="line 26 of /dev/no-such-chip"):
        Line("/dev/no-such-chip", 26, active_low=False, output=False)


def test_a_chip_is_found_by_its_label(chips):
    there = chips(gpiochip0="brcmvirt-gpio", gpiochip11="pinctrl-rp1")
    assert find_chip("") == there / "gpiochip11"
    assert find_chip("brcmvirt-gpio") == there / "gpiochip0"
    assert str(find_chip("/dev/gpiochip7")) == "/dev/gpiochip7"


def test_a_chip_of_two_names_is_one(chips):
    there = chips(gpiochip0="pinctrl-rp1")
    (there / "gpiochip4").symlink_to(there / "gpiochip0")
    assert find_chip("") == there / "gpiochip0"


def test_a_missing_chip_says_what_there_is(chips):
    chips(gpiochip0="gpio-sim")
    with pytest.raises(TransportError, match="pinctrl-rp1 or .*there is gpio-sim"):
        find_chip("")


def test_a_chip_that_may_not_be_opened_says_so(chips):
    chips(gpiochip0=OSError(errno.EACCES, "Permission denied"))
    with pytest.raises(TransportError, match="Permission denied"):
        find_chip("")


def test_without_the_package_it_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gpiod", None)
    with pytest.raises(TransportError, match="gpiod cannot be used"):
        Line("", 26, active_low=False, output=False)


@pytest.mark.parametrize(("text", "outlives"), [("Y\n", True), ("N\n", False), (None, None)])
def test_whether_a_line_outlives_its_process(monkeypatch, tmp_path, text, outlives):
    monkeypatch.setattr(output, "MODULES", tmp_path)
    if text:
        folder = tmp_path / "pinctrl_bcm2835/parameters"
        folder.mkdir(parents=True)
        (folder / "persist_gpio_outputs").write_text(text)
    assert outlives_process() is outlives


def test_a_file_holds_the_level_from_its_first_moment(tmp_path):
    path = tmp_path / "deep" / "output"
    coil = FileOutput(path, True)
    assert path.read_text() == "1\n"
    coil.drive(False)
    assert path.read_text() == "0\n"
    assert coil.read() is False
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_never_half_written(tmp_path):
    path = tmp_path / "output"
    coil = FileOutput(path, False)
    seen, stop = set(), threading.Event()

    def look():
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(400):
        coil.drive(bool(number % 2))
    stop.set()
    reader.join()
    assert seen <= {"0\n", "1\n"}


@pytest.mark.parametrize("content", [b"", b"2\n", b"on\n", b"\xff\xfe", None])
def test_a_file_that_holds_something_else_is_unreadable(tmp_path, content):
    path = tmp_path / "contact"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TransportError, match="contact"):
        FileInput(path).read()


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match="cannot be written"):
        FileOutput(tmp_path / "file" / "output", False)


def test_nothing_is_wired(tmp_path):
    coil = output.open_output(OutputTable(by="none"), False)
    assert isinstance(coil, NoOutput)
    coil.drive(True)
    assert coil.read() is True
    coil.close()
    assert output.open_feedback(FeedbackTable()) is None


def test_the_second_line_is_another_one(requests, tmp_path):
    table = OutputTable(chip="/dev/gpiochip0", line=26, second_line=19, power_is="low")
    output.open_output(table, False, second=True)
    output.open_output(table, False)
    assert [request.settings.active_low for request in requests] == [True, True]
    table = OutputTable(by="file", path=str(tmp_path / "a"), second_path=str(tmp_path / "b"))
    output.open_output(table, True, second=True)
    assert (tmp_path / "b").read_text() == "1\n"
