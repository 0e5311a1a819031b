"""What huggingface_hub raises, as one sentence with the remedy, without the access token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from alexnet._runtime.hub_address import HubAddress
from alexnet._runtime.transfer import TransferError, UnavailableError
from alexnet.errors import UserError

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class HubUnreachableError(UnavailableError):
    """The hub does not answer, or fails: the same request may succeed later."""


class NoRepositoryError(UserError):
    """There is no such repository, or the token may not see it."""


@contextmanager
def user_errors(address: HubAddress, state: str = "") -> Iterator[None]:
    """Raise what huggingface_hub raises as a UserError.

    Args:
        state: what is on the hub if the block fails; default: what was there before.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno is not None:  # of a file here, such as a full disk
            raise
        raise _user_error(error, address, state) from error
    except Exception as error:  # httpx's, those of hf_xet, and what the library raises about an answer
        raise _user_error(error, address, state) from error


def _user_error(error: Exception, address: HubAddress, state: str) -> UserError:
    from huggingface_hub import constants, errors

    # The library wraps errors of its threads, and those for which it looked into its cache.
    while isinstance(error, RuntimeError | errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    kind: type[UserError] = UserError
    hub, again = f"the hub at {constants.ENDPOINT}", "try again later"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    match error:
        case errors.GatedRepoError():
            problem, remedy = f"{address} is gated", f"ask for access on its page, and {LOG_IN}"
        case errors.RepositoryNotFoundError():
            kind, problem = NoRepositoryError, f"{hub} has no {address}, or it is private and you may not read it"
            remedy = LOG_IN
        case errors.RevisionNotFoundError():
            problem, remedy = f"{address} does not exist: the repository has no such revision", (
                "name a branch, a tag or a commit of it")
        case errors.OfflineModeIsEnabled():
            kind, problem, remedy = HubUnreachableError, f"{address} needs a connection, and HF_HUB_OFFLINE is set", (
                "unset it")
        case errors.HfHubHTTPError() if status == 401:
            problem, remedy = f"{hub} rejects your access token", f"make a new one, and {LOG_IN}"
        case errors.HfHubHTTPError() if status == 403:
            problem = f"{hub} does not permit this for {address}{_answer(error)}"
            remedy = "check the user name, and use a token with write permission for it"
        case errors.HfHubHTTPError() if status in (409, 412):
            problem, remedy = f"{address} was changed at the same time{_answer(error)}", "run the command again"
        case errors.HfHubHTTPError():
            kind = HubUnreachableError if status == 429 or status >= 500 else UserError
            problem, remedy = f"{hub} answers {status} about {address}{_answer(error)}", again
        # of httpx, or httpx2 from huggingface_hub 2 on: no connection, or it was cut
        case errors.HTTPError() | TransferError():
            kind, problem = HubUnreachableError, f"{hub} cannot be reached for {address} ({_text(error)})"
            remedy = "check the connection, and try again"
        case _:
            problem, remedy = f"{address} could not be transferred ({_text(error)})", again
    return kind(f"{problem}; {state}" if state else problem, remedy)


def _answer(error: Exception) -> str:
    """What the server says about an error, in parentheses; "" for nothing."""
    message = getattr(error, "server_message", None)
    said = _text(message) if message else ""
    return f" ({said})" if said else ""


def _text(said: object) -> str:
    """A message of the library or the server in one line, without the access token."""
    from huggingface_hub import get_token

    text = " ".join(str(said).split()) or type(said).__name__
    token = None
    with suppress(Exception):  # the library may ask a server for a short-lived one
        token = get_token()
    if token:
        text = text.replace(token, "...")
    return text[:200]
