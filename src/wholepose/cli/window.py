"""A window that shows pictures one after the other, through Tk, which comes with Python."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING

from wholepose.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHARE_OF_SCREEN = 0.9


class Window:
    """Shows pictures until it is closed, also with the keys Q and Escape. Belongs to the thread that made it.

    Raises:
        ConfigError: This Python has no Tk, or there is no display.
    """

    def __init__(self) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise ConfigError(
                "--show: this Python has no Tk to open a window with; install it (Debian: apt install python3-tk, "
                "Homebrew: brew install python-tk), or write a film with --draw"
            ) from error
        try:
            root = tkinter.Tk()
        except tkinter.TclError as error:
            raise ConfigError(f"--show: no window can be opened ({error}); write a film with --draw instead") from error
        self._root: tkinter.Tk | None = root
        self._label = tkinter.Label(root, borderwidth=0, background="black")
        self._label.pack(expand=True, fill="both")
        self._photo: tkinter.PhotoImage | None = None
        root.protocol("WM_DELETE_WINDOW", self.close)
        for key in ("q", "Q", "<Escape>"):
            root.bind(key, lambda _event: self.close())

    def show(self, image: NDArray[np.uint8], title: str) -> bool:
        """Shows a picture, at most as large as the screen.

        Args:
            image: (H, W, 3) uint8 RGB.
            title: Of the window.

        Returns:
            Whether the window is open; False from the time on when the user closed it.
        """
        import tkinter

        import cv2
        import numpy as np

        if self._root is None:
            return False
        height, width = image.shape[:2]
        screen = (self._root.winfo_screenheight(), self._root.winfo_screenwidth())
        scale = min(1.0, _SHARE_OF_SCREEN * screen[0] / height, _SHARE_OF_SCREEN * screen[1] / width)
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        data = b"P6 %d %d 255\n" % (image.shape[1], image.shape[0]) + image.tobytes()
        try:
            self._root.title(title)
            self._photo = tkinter.PhotoImage(master=self._root, data=data, format="PPM")  # Tk keeps no reference
            self._label.configure(image=self._photo)
            self._root.update()
        except tkinter.TclError:  # the window was closed from outside
            self.close()
        return self._root is not None

    def close(self) -> None:
        """Closes the window; closing twice is fine."""
        import tkinter

        if self._root is not None:
            root, self._root, self._photo = self._root, None, None
            with contextlib.suppress(tkinter.TclError):
                root.destroy()

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
