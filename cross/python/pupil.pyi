"""Small language models, translators and object detectors on the CPU you have, from one mapped GGUF file."""

from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Literal, Optional, Union, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Answer",
    "Chat",
    "ContextFullError",
    "Detection",
    "Detector",
    "Error",
    "FormatError",
    "Model",
    "Stream",
    "Translation",
    "Translator",
    "UnsupportedError",
    "__version__",
]

__version__: str

_Path = Union[str, PathLike[str]]
_Picture = Union[npt.NDArray[np.uint8], _Path, bytes]

class Error(Exception):
    """What went wrong, in one line that names the file and the fault."""

class FormatError(Error):
    """A file is damaged, truncated, or not what its format promises."""

class UnsupportedError(Error):
    """A file is sound, but asks for something this version does not do."""

class ContextFullError(Error):
    """The conversation no longer fits into the model's context."""

@final
class Model:
    """A language model: one GGUF file, mapped."""

    def __new__(cls, path: _Path) -> Model: ...

@final
class Answer:
    """An answer and what it took. str() gives its text."""

    @property
    def text(self) -> str: ...
    @property
    def finish(self) -> Literal["end", "stop", "length", "context_full", "cancelled"]: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def reused_tokens(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def prompt_seconds(self) -> float: ...
    @property
    def decode_seconds(self) -> float: ...

@final
class Stream:
    """The pieces of an answer, one after the other."""

    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    @property
    def answer(self) -> Optional[Answer]:
        """The whole answer, once all pieces have come; None before."""

@final
class Chat:
    """A conversation with a model. What is None is as the library has it."""

    def __new__(
        cls,
        model: Model,
        *,
        system: Optional[str] = None,
        raw: bool = False,
        context: Optional[int] = None,
        max_tokens: Optional[int] = None,
        stop: Sequence[str] = ...,
        shift: bool = False,
        threads: Optional[int] = None,
        temperature: Optional[float] = None,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        min_p: Optional[float] = None,
        repeat_penalty: Optional[float] = None,
        seed: Optional[int] = None,
    ) -> Chat: ...
    @property
    def context(self) -> int:
        """Tokens that fit into the conversation."""

    def say(self, text: str, on_piece: Optional[Callable[[str], object]] = None) -> Answer:
        """Says text and returns the whole answer; on_piece hears each piece, and ends it by returning False."""

    def stream(self, text: str) -> Stream:
        """Says text and gives the pieces of the answer as they come, computed at most one ahead."""

    def reset(self) -> None:
        """Forgets the conversation; the system prompt stays."""

@final
class Translation:
    """A translation and what it took. str() gives its text."""

    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def finish(self) -> Literal["end", "length", "repeats"]: ...
    @property
    def sentences(self) -> int: ...
    @property
    def source_tokens(self) -> int: ...
    @property
    def tokens(self) -> int: ...

@final
class Translator:
    """A translator: one GGUF file, mapped. What is None is as the library or the file has it."""

    def __new__(
        cls,
        path: _Path,
        *,
        source: Optional[str] = None,
        target: Optional[str] = None,
        prefix: Optional[str] = None,
        beam: Optional[int] = None,
        length_penalty: Optional[float] = None,
        no_repeat_ngram: Optional[int] = None,
        max_length_ratio: Optional[float] = None,
        batch: Optional[int] = None,
        shortlist: bool = True,
        threads: Optional[int] = None,
    ) -> Translator: ...
    def translate(self, text: str) -> Translation:
        """Translates a text of any length, which may be empty."""

    def translate_batch(self, texts: Sequence[str]) -> list[Translation]:
        """Translates several texts, and sentences of all of them together."""

@final
class Detection:
    """An object in a picture."""

    @property
    def name(self) -> str:
        """The name of its class."""

    @property
    def class_id(self) -> int:
        """The number of its class, a place in Detector.classes."""

    @property
    def score(self) -> float:
        """How sure the model is, usually from 0 to 1."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The left, top, right and bottom edges in the picture's pixels."""

@final
class Detector:
    """A detector: one GGUF file, mapped. What is None is as the file says."""

    def __new__(
        cls,
        path: _Path,
        *,
        confidence: Optional[float] = None,
        iou: Optional[float] = None,
        at_most: Optional[int] = None,
        classes: Sequence[str] = ...,
        threads: Optional[int] = None,
    ) -> Detector: ...
    @property
    def classes(self) -> list[str]:
        """The names of the classes that the model knows."""

    def detect(self, picture: _Picture) -> list[Detection]:
        """The objects in a picture: uint8, height x width x 3, red first; or a picture file's path or bytes."""

    def detect_arrays(
        self, picture: _Picture
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """As detect, but as arrays: boxes of n x 4, n scores and n numbers of classes."""

    def draw(self, picture: _Picture, found: Sequence[Detection]) -> npt.NDArray[np.uint8]:
        """The picture with boxes, names and scores drawn on it: uint8, height x width x 3, red first."""
