// What went wrong, in plain words, and what one can do about it.

export class Notice {
  #element;
  #back;

  /**
   * @param element Where messages appear.
   * @param back What gets the focus when a message goes that had it.
   */
  constructor(element, back) {
    this.#element = element;
    this.#back = back;
  }

  /**
   * Shows a message in the place of the one before.
   * @param notice title, text; alert: whether to interrupt a screen reader; actions: [{label, run}]; field: an element
   *   to show above the actions.
   */
  show({ title, text = "", alert = true, actions = [], field = null }) {
    const heading = document.createElement("strong");
    heading.textContent = title;
    const words = document.createElement("p");
    words.append(heading, text ? ` ${text}` : "");
    const close = document.createElement("button");
    close.type = "button";
    close.className = "close";
    close.textContent = "×";
    close.setAttribute("aria-label", "Close this message");
    close.addEventListener("click", () => this.clear());
    const parts = [words, close];
    if (field) parts.push(field);
    if (actions.length) {
      const row = document.createElement("div");
      row.className = "row start";
      for (const { label, run } of actions) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = label;
        button.addEventListener("click", () => {
          this.clear();
          run();
        });
        row.append(button);
      }
      parts.push(row);
    }
    const hadFocus = this.#element.contains(document.activeElement);
    this.#element.setAttribute("role", alert ? "alert" : "status");
    this.#element.hidden = false;
    this.#element.replaceChildren(...parts);
    if (hadFocus) (this.#element.querySelector(".row button") ?? close).focus(); // such as Stop, from one wait to the next
  }

  clear() {
    const hadFocus = this.#element.contains(document.activeElement);
    this.#element.hidden = true;
    this.#element.replaceChildren();
    if (hadFocus) this.#back.focus({ preventScroll: true });
  }
}
