"""One person's line to a team's Supabase project: signing in, calling functions, and errors that a person can use.

A :class:`Server` is shared by all (its HTTP connections are); a :class:`Connection` belongs to one person and is never
shared, because a client signed in as somebody else would write in their name. What it leaves out: what is stored (``supabase``).
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from postgrest.exceptions import APIError
from supabase import Client, ClientOptions, create_client
from supabase_auth import errors as auth_errors
from supabase_auth.types import AuthResponse, Session

from rlhf_core.ground.errors import (
    Duplicate,
    Forbidden,
    InvalidInput,
    NotFound,
    RlhfError,
    SessionExpired,
    SignInRequired,
    StorageFull,
    StoreTimeout,
    StoreUnavailable,
)
from rlhf_core.ground.records import check_name
from rlhf_core.ground.settings import KEY_VARIABLE, SECRET_KEY_VARIABLE, TeamSettings

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0
SLOW_ANSWER_TIMEOUT_S = 600.0
SLOW = frozenset({
    "stage_import", "finish_import", "begin_export", "export_chats", "export_steps_by_chat", "export_feedback", "export_lines",
    "row_hashes", "judged_otherwise",
})  # fmt: skip
REFRESH_BEFORE_S = 60.0  # a token is renewed this long before it ends, or halfway if it lives for less than two minutes
PASSWORD_MIN_CHARS = 8
SESSION_ENDED = "Your session has ended. Sign in again; what was shown as saved is saved."
T = TypeVar("T")

logging.getLogger("httpx").setLevel(logging.WARNING)  # or every request is a line in the log


class Server:
    """A Supabase project and the HTTP connections to it. Thread-safe; one for each process."""

    def __init__(self, settings: TeamSettings) -> None:
        self.settings = settings
        self.http = httpx.Client(
            http2=False,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=30),
            event_hooks={"request": [_allow_slow_ones], "response": [_expect_json]},
        )

    def close(self) -> None:
        self.http.close()

    def client(self, key: str) -> Client:
        options = ClientOptions(
            auto_refresh_token=False, persist_session=False, httpx_client=self.http, postgrest_client_retry=False,
        )  # fmt: skip
        return create_client(self.settings.url, key, options=options)


def _allow_slow_ones(request: httpx.Request) -> None:
    if request.url.path.rpartition("/")[2] in SLOW:
        request.extensions["timeout"] |= {"read": SLOW_ANSWER_TIMEOUT_S, "write": SLOW_ANSWER_TIMEOUT_S}


def _expect_json(response: httpx.Response) -> None:
    """The client library hands on as data whatever comes with a good status: a network's sign-in page, too."""
    kind = response.headers.get("content-type", "")
    if response.status_code == 200 and "json" not in kind:
        raise ValueError(f"200 {kind or 'of no kind'}")


def _check_password(password: str) -> None:
    if len(password) < PASSWORD_MIN_CHARS:
        raise InvalidInput(f"A password has at least {PASSWORD_MIN_CHARS} characters. Choose a longer one.")


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has signed in."""

    user_id: str
    email: str


class Connection:
    """One person (after :meth:`sign_in`), or the operator (with the secret key). Thread-safe.

    How long a token lives is counted on this machine's steady clock from the moment it came, so a wrong wall clock neither
    signs anybody out nor lets a token run dry; where the server says that it has ended, it is renewed once and the call made
    again. Every call may be made twice: identifiers come from this side, so a repeat changes nothing.
    """

    def __init__(self, server: Server, *, secret_key: str | None = None) -> None:
        self.server = server
        self.account: Account | None = None
        self.operator = secret_key is not None
        self._lock = threading.RLock()
        self._client = server.client(secret_key or server.settings.key)
        self._refresh_token: str | None = None
        self._renew_at = float("inf")

    # people ---------------------------------------------------------------------------------------------------------

    def sign_in(self, email: str, password: str) -> Account:
        """
        Raises:
            InvalidInput: wrong e-mail or password, or an address that was not confirmed yet.
            StoreUnavailable: no answer.
        """
        answer = self._auth(lambda auth: auth.sign_in_with_password({"email": email.strip(), "password": password}))
        return self._signed_in(answer)

    def sign_up(self, email: str, password: str, display_name: str) -> Account | None:
        """Make an account. None where the server wants the address confirmed by mail first.

        Raises:
            InvalidInput: no e-mail address, a weak password, sign-up is closed.
            Duplicate: there is an account with this address.
        """
        display_name = check_name(display_name)
        _check_password(password)
        answer = self._auth(
            lambda auth: auth.sign_up(
                {"email": email.strip(), "password": password, "options": {"data": {"display_name": display_name}}}
            )
        )
        return self._signed_in(answer) if answer.session else None

    def sign_in_with_id_token(self, provider: str, token: str) -> Account:
        """Sign in with what an OIDC provider that the project knows has said.

        Raises:
            InvalidInput: the project does not accept it.
        """
        return self._signed_in(self._auth(lambda auth: auth.sign_in_with_id_token({"provider": provider, "token": token})))

    def send_recovery(self, email: str) -> None:
        """Have a code sent that lets its owner choose a new password. Says nothing of whether there is such an account."""
        self._auth(lambda auth: auth.reset_password_for_email(email.strip()))

    def recover(self, email: str, code: str, password: str) -> Account:
        """Sign in with a code from the mail and set a new password.

        Raises:
            InvalidInput: the code is wrong or too old, or the password is too weak. A code is good once, so what can be known of
                the password is looked at first.
        """
        _check_password(password)
        account = self._signed_in(
            self._auth(lambda auth: auth.verify_otp({"email": email.strip(), "token": code.strip(), "type": "recovery"}))
        )
        self.change_password(password)
        return account

    def change_password(self, password: str) -> None:
        """
        Raises:
            InvalidInput: too weak, or the same as before.
            SessionExpired: sign in again first.
        """
        self._keep_fresh()
        self._auth(lambda auth: auth.update_user({"password": password}))

    def sign_out(self) -> None:
        """End the session, on the server too where it answers."""
        with self._lock:
            with contextlib.suppress(RlhfError):  # the server forgets it when the token ends; here it is forgotten now
                self._auth(lambda auth: auth.sign_out({"scope": "local"}))
            self._forget()

    def _signed_in(self, answer: AuthResponse) -> Account:
        if answer.session is None or answer.user is None:
            raise SignInRequired("The server answered without a session. Try to sign in again.")
        self._keep(answer.session)
        self.account = Account(answer.user.id, answer.user.email or "")
        return self.account

    def _keep(self, session: Session) -> None:
        self._refresh_token = session.refresh_token
        life = float(session.expires_in or 3600)
        self._renew_at = time.monotonic() + max(life - REFRESH_BEFORE_S, life / 2)

    def _forget(self) -> None:
        self.account = self._refresh_token = None
        self._renew_at = float("inf")
        self._client = self.server.client(self.server.settings.key)

    def _keep_fresh(self) -> None:
        if not self.operator and self._refresh_token is None:
            raise SessionExpired("You are signed out. Sign in and try again.")
        if time.monotonic() >= self._renew_at:
            self._renew(self._renew_at)

    def _renew(self, seen: float) -> None:
        """New tokens. Of several threads that see the old one end, the first renews and the others use what it got."""
        with self._lock:
            if self._renew_at != seen or self._refresh_token is None:
                return
            token = self._refresh_token
            answer = self._auth(lambda auth: auth.refresh_session(token))
            if answer.session is None:
                raise self._ended()
            self._keep(answer.session)

    def _ended(self) -> SessionExpired:
        self._forget()
        return SessionExpired(SESSION_ENDED)

    # calls ----------------------------------------------------------------------------------------------------------

    def call(self, function: str, **values: Any) -> Any:
        """Call a database function as this person; returns its JSON.

        Raises:
            InvalidInput, Duplicate, NotFound, Forbidden: what the database says of the values.
            SessionExpired: sign in again. SignInRequired: nobody has signed in.
            StoreTimeout, StoreUnavailable, StorageFull: nothing is known to be written.
        """
        self._keep_fresh()
        seen = self._renew_at
        try:
            return self._once(function, values)
        except SessionExpired:
            if self.operator or self._refresh_token is None:
                raise
            self._renew(seen)  # this side thought that it was good: clocks, or a server that was restarted
            try:
                return self._once(function, values)
            except SessionExpired:
                raise self._ended() from None

    def _once(self, function: str, values: dict[str, Any]) -> Any:
        return self._translated(
            lambda: self._client.rpc(function, {f"p_{name}": value for name, value in values.items()}).execute().data
        )

    def _auth(self, do: Callable[[Any], T]) -> T:
        return self._translated(lambda: do(self._client.auth))

    def _translated(self, do: Callable[[], T]) -> T:
        url = self.server.settings.url
        try:
            try:
                return do()
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                return do()  # a kept connection that the server had closed meanwhile; twice changes nothing
        except httpx.ConnectTimeout as error:
            raise StoreUnavailable(f"{url} cannot be reached: no answer within {CONNECT_TIMEOUT_S:g} s. {_OFFLINE}") from error
        except httpx.TimeoutException as error:
            raise StoreTimeout(
                f"{url} did not answer in time. It may or may not have stored this; try again, nothing counts twice."
            ) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise StoreUnavailable(f"{url} cannot be reached ({_reason(error)}). {_OFFLINE}") from error
        except APIError as error:
            raise self._database_error(error) from error
        except auth_errors.AuthError as error:
            raise self._auth_error(error) from error
        except UnicodeEncodeError as error:
            raise InvalidInput("The text holds half a character, which cannot be sent. Type it anew.") from error
        except ValueError as error:  # what came is no JSON, or not of the form that was agreed on
            raise self._not_supabase(error) from None

    def _not_supabase(self, error: object) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.server.settings.url} answered something that is not Supabase's ({str(error)[:80]}): a sign-in page of a "
            "network, a proxy's error page, or another server. Check SUPABASE_URL, and try again."
        )

    def _database_error(self, error: APIError) -> RlhfError:
        code, message = error.code or "", error.message or ""
        if message == "Invalid API key" or (code == "401" and "key" in message.lower()):
            return self._wrong_key()
        if code in ("PGRST301", "PGRST302", "PGRST303"):
            if self.operator:
                return self._wrong_key()
            return SessionExpired(SESSION_ENDED)
        if code == "42501" and "row-level security" in message:
            return Forbidden("Your role does not allow this any more. Ask an administrator of your team if you need it.")
        if code == "42501":
            return Forbidden(f"Not allowed: {message}. Ask an administrator of your team if you need it.")
        if code == "P0002":
            return NotFound(f"{message[:1].upper()}{message[1:]}.")
        if code == "23505":
            return Duplicate(f"It is there already: {message}.")
        if code[:2] in ("22", "23"):
            return InvalidInput(f"The store refuses this: {message}.")
        if code == "57014":
            return StoreTimeout(
                f"{self.server.settings.url} took too long over this and gave up; nothing was written. Try again."
            )
        if code in ("40001", "40P01"):
            return StoreUnavailable("Somebody else was writing the same rows; nothing was written. Try again.")
        if code in ("53100", "25006"):  # disk full; read-only, as a hosted project with a full disk is
            return StorageFull(f"The database's disk is full: nothing was written ({message}). Free or add space in the project.")
        if code in ("PGRST202", "PGRST205", "42883", "42P01"):
            return StoreUnavailable(
                f"{self.server.settings.url} lacks a table or function of the workbench ({message}). Apply the migrations: "
                "supabase db push --workdir sql (docs/supabase.md)."
            )
        if code == "429":
            return StoreUnavailable(f"{self.server.settings.url} is asked too often just now. Wait a minute and try again.")
        if "<" in str(error.details)[:200] or "text/html" in message:
            return self._not_supabase(f"{code} {message}".strip() + ", a web page")
        return StoreUnavailable(
            f"{self.server.settings.url} failed: {message or 'no reason given'} ({code or 'no code'}). Try again."
        )

    def _wrong_key(self) -> StoreUnavailable:
        name = SECRET_KEY_VARIABLE if self.operator else KEY_VARIABLE
        return StoreUnavailable(
            f"{self.server.settings.url} does not accept the key in {name}. Copy it anew from the project's API settings; "
            "each project has its own."
        )

    def _auth_error(self, error: auth_errors.AuthError) -> RlhfError:
        url, code, message = self.server.settings.url, str(error.code or ""), error.message
        if isinstance(error, auth_errors.AuthRetryableError):
            return StoreUnavailable(f"{url} cannot be reached ({_reason(error)}). {_OFFLINE}")
        if isinstance(error, auth_errors.AuthUnknownError):
            return self._not_supabase(message)
        if message == "Invalid API key" or code == "no_authorization":
            return self._wrong_key()
        if code in _SAID:
            return (Duplicate if code in ("user_already_exists", "email_exists") else InvalidInput)(_SAID[code])
        if "nonce" in message.lower() or "id token" in message.lower() or "audience" in message.lower():
            return InvalidInput(
                f"The project does not accept what the provider said ({message}). In its authentication settings, the provider "
                "needs this client id, and 'Skip nonce checks' switched on (docs/supabase.md)."
            )
        if code.startswith("over_"):
            return StoreUnavailable("The server was asked too often just now. Wait a minute and try again.")
        if code in _ENDED or isinstance(error, (auth_errors.AuthSessionMissingError, auth_errors.AuthInvalidJwtError)):
            return self._ended()
        if self._refresh_token is not None and code == "validation_failed" and "token" in message.lower():
            return self._ended()
        if code in ("weak_password", "validation_failed") or isinstance(error, auth_errors.AuthWeakPasswordError):
            return InvalidInput(message if message.endswith(".") else f"{message}.")
        return StoreUnavailable(f"{url} refused: {message}{f' ({code})' if code else ''}.")


_OFFLINE = "Nothing was written. Check the network and that the project is running, then try again."
_SAID = {
    "invalid_credentials": "This e-mail address and password do not belong together. Check both, or ask for a new password.",
    "email_not_confirmed": "This address is not confirmed yet. Open the link in the mail that came when you signed up.",
    "user_already_exists": "There is an account with this address. Sign in instead.",
    "email_exists": "There is an account with this address. Sign in instead.",
    "signup_disabled": "This team's server takes no sign-ups. Ask an administrator for an account.",
    "email_provider_disabled": "This team's server takes no e-mail sign-ups. Ask an administrator how you sign in.",
    "otp_expired": "This code is wrong or too old. Ask for a new one.",
    "same_password": "This is the password you have. Choose another.",
    "email_address_invalid": "The server does not accept this e-mail address. Check it.",
    "user_banned": "This account is closed. Ask an administrator.",
    "provider_disabled": "The project does not know this sign-in provider. Enable it in the project's authentication settings.",
}
_ENDED = {
    "bad_jwt",
    "session_not_found",
    "session_expired",
    "refresh_token_not_found",
    "refresh_token_already_used",
    "user_not_found",
}


def _reason(error: Exception) -> str:
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error).strip()) or type(error).__name__
