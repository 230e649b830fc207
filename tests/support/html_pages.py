"""The inspector's pages, read without a browser."""

from html.parser import HTMLParser

from fastapi.testclient import TestClient

from rest import KEY

REST = {"Authorization": f"Bearer {KEY}"}

_VOID = {"input", "img", "link", "meta", "br", "hr"}


class Seen(HTMLParser):
    """The parts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.posts: list[str] = []
        self.described: dict[str, str] = {}
        self._forms: dict[str, dict[str, list[str]]] = {}
        self._form: dict[str, list[str]] = {}
        self._select = self._area = ""
        self._inside: list[str] = []
        self._texts: dict[str, str] = {}
        self._titles: list[str] = []
        self.styled = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.styled |= "style" in given or any(name.startswith("on") for name in given)
        self.links += [given["href"] or ""] if "href" in given else []
        loaded = [given.get("src"), given.get("href") if tag == "link" else None]
        self.loads += [link for link in loaded if link]
        if tag == "form":
            self._form = self._forms.setdefault(given.get("action") or "", {})
            self.posts += [given["action"] or ""] if given.get("method") == "post" else []
        if "id" in given and "aria-describedby" in given:
            self.described[given["id"] or ""] = given["aria-describedby"] or ""
        if given.get("class") == "title":
            self._titles.append("")
        if tag not in _VOID:
            self._inside.append(
                "title of it" if given.get("class") == "title" else given.get("id") or ""
            )
        self._control(tag, given)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            self._inside.pop()
        if tag == "textarea":
            self._area = ""

    def handle_data(self, data: str) -> None:
        for id_ in filter(None, self._inside):
            self._texts[id_] = self._texts.get(id_, "") + data
        if "title of it" in self._inside:
            self._titles[-1] += data
        if self._area:
            self._form[self._area] = [data.removeprefix("\n")]

    def _control(self, tag: str, given: dict[str, str | None]) -> None:
        name, value = given.get("name") or "", given.get("value") or ""
        if tag == "input" and given.get("type") in ("radio", "checkbox"):
            if "checked" in given:
                self._form.setdefault(name, []).append(value)
        elif tag == "input":
            self._form[name] = [value]
        elif tag == "textarea":
            self._area, self._form[name] = name, [""]
        elif tag == "select":
            self._select = name
        elif tag == "option" and (value == "" or "selected" in given):
            self._form[self._select] = [value]

    def form(self, action: str) -> dict[str, list[str]]:
        """What a browser would send of a form as it is shown."""
        return self._forms[action]

    @property
    def titles(self) -> list[str]:
        """What each line of a journal is called."""
        return [" ".join(title.split()) for title in self._titles]

    def text_of(self, id_: str) -> str:
        """The text of what has an id."""
        return self._texts[id_]


def log_in(browser: TestClient, key: str) -> None:
    answer = browser.post("/ui/login", data={"key": key}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui")
