"""Follows what goes on by itself on AWS, for hours: a job, an endpoint that changes."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from dogbreeds.errors import UserError, on_interrupt
from dogbreeds.sagemaker.aws_errors import ForbiddenError, MissingError, aws_errors, passes
from dogbreeds.sagemaker.session import Account

log = logging.getLogger(__name__)

# A job is followed through a night without credentials or a connection.
_PATIENCE_SECONDS = 12 * 3600.0
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Followed:
    """What is followed, such as "The job", and again by typing the command `again`."""

    account: Account
    what: str
    again: str

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Asks AWS until it answers: a job of hours outlasts busy services, networks and credentials.

        Raises:
            UserError: AWS refuses to answer, or nothing has changed for half a day.
        """
        began, said = time.monotonic(), False
        while True:
            try:
                with aws_errors("reach AWS"):
                    return question()
            except (MissingError, ForbiddenError):
                raise
            except UserError as error:
                cause = error.__cause__
                if not passes(cause) or time.monotonic() - began > _PATIENCE_SECONDS:
                    raise UserError(f"{error} Come back to it with: {self.again}") from cause
                if not said:
                    log.warning("%s %s does not need this connection; waiting for it.", error, self.what)
                said = True
            time.sleep(self.account.poll_seconds)
            self.account.renew()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Says how to come back when the person leaves, AWS refuses or the connection is lost."""
        goes_on = f"{self.what} keeps running. Follow it again with: {self.again}"
        try:
            with on_interrupt(goes_on), aws_errors("reach AWS"):
                yield
        except UserError as error:
            known = not isinstance(error.__cause__, ClientError | BotoCoreError) or self.again in str(error)
            if known or isinstance(error, MissingError):
                raise
            raise UserError(f"{error} {goes_on}") from error.__cause__
