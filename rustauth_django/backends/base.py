"""What every backend is."""

from abc import ABC, abstractmethod
from typing import TypeVar

from ..operations import Operation

T = TypeVar("T")


class Backend(ABC):
    """Answers operations, each in one atomic step.

    ``run`` and ``arun`` raise ``BackendError`` or ``BackendUnavailable`` and nothing
    else of the server's or the network's doing.
    """

    #: Where the data is, fit to be printed: never a user name or a password.
    location: str

    @abstractmethod
    def run(self, operation: Operation[T]) -> T:
        """Answer, blocking."""

    @abstractmethod
    async def arun(self, operation: Operation[T]) -> T:
        """Answer, without blocking the running loop."""

    @abstractmethod
    def close(self) -> None:
        """Give back what this backend opened for sync use."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give back what this backend opened, for sync use and for the running loop."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"
