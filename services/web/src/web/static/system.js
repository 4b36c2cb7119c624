// A new key is copied by a button, where the browser lets a page do that.
const button = document.getElementById("copy");
const token = document.getElementById("token");
if (button && token && navigator.clipboard) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(token.textContent);
      button.textContent = button.dataset.done;
    } catch {
      getSelection().selectAllChildren(token); // then by hand
    }
  });
}
