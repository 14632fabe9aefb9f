"""Where a lake is: a folder, or the address of a remote one (decision 012). Reads settings; opens nothing.

A remote is given as a URL, as a mapping, or as the name of a profile in the configuration file::

    [profiles.team]
    mongodb = "mongodb://db.example.org/lake"
    mongodb_user_env = "LAKE_USER"             # names of environment variables, so that no secret is in the file
    mongodb_password_env = "LAKE_PASSWORD"
    namespace = "ana"

    [profiles.team.s3]                         # or: folder = "/shared/blobs"; neither, for a lake that exists
    bucket = "our-lake"
    endpoint = "https://s3.example.org"

Secrets are in the fields of an address, and in nothing that it says about itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dreamlake import config
from dreamlake.errors import InvalidInput, InvalidType
from dreamlake.model import check_name

if TYPE_CHECKING:
    from dreamlake.services.s3_calling import S3Settings

__all__ = ["RemoteAddress", "is_url", "locate", "location_of", "remote_address"]

_MONGODB = ("mongodb://", "mongodb+srv://")
_S3_TEXT = ("bucket", "prefix", "endpoint", "region", "addressing", "profile")
_S3_SECRET = ("access_key_id", "secret_access_key", "session_token")
_S3_KEYS = (*_S3_TEXT, *_S3_SECRET, *(f"{name}_env" for name in _S3_SECRET))
_KEYS = ("mongodb", "mongodb_env", "mongodb_user_env", "mongodb_password_env", "s3", "folder", "namespace")
_QUERY = ("mongodb", "endpoint", "region", "addressing", "profile", "namespace")
_ADDRESSING = ("auto", "path", "virtual")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class RemoteAddress:
    """A remote lake.

    Attributes:
        mongodb: URL of the database; may hold a password.
        blobs: the bucket, or the absolute path of a shared folder; None: where the database says.
        namespace: whose sessions are meant.
        profile: the name it was given by, or None.
    """

    mongodb: str = field(repr=False)
    blobs: S3Settings | str | None = None
    namespace: str = ""
    profile: str | None = None

    def __str__(self) -> str:
        """Fit to be shown: without users, passwords and options."""
        return self.profile if self.profile is not None else self.place

    @property
    def place(self) -> str:
        """Scheme, hosts and name of the database, without user, password and options."""
        scheme, _, rest = self.mongodb.partition("://")
        return f"{scheme}://{rest.split('?')[0].rpartition('@')[2]}"


def is_url(text: object) -> bool:
    """True for what is meant as the URL of a remote lake."""
    return isinstance(text, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def locate(
    local_path: str | os.PathLike[str] | None = None, remote: Any = None, namespace: str | None = None
) -> str | RemoteAddress:
    """The folder or the remote that is meant: arguments, environment, configuration file, ``./experiments``.

    Raises:
        InvalidInput: both arguments, a namespace for a folder, an unknown profile, an address that does not read.
        InvalidType: an argument of another type.
    """
    if remote is not None and local_path is not None:
        raise InvalidInput("local_path and remote are two places; give one of them")
    if remote is None and local_path is None and not os.environ.get("DREAMLAKE_LOCAL_PATH"):
        remote = os.environ.get("DREAMLAKE_REMOTE") or None
        if remote is None:
            settings = config.read_file()
            remote = settings.get("remote") if "local_path" not in settings else None
    if remote is not None:
        return remote_address(remote, namespace=namespace)
    if namespace is not None:
        raise InvalidInput(f"namespace={namespace!r} is for remote lakes; in a folder there is only one")
    if is_url(local_path):
        raise InvalidInput("local_path is a folder; give the URL of a remote lake as remote=...")
    return config.local_path(local_path)


def location_of(given: Any, *, namespace: str | None = None) -> str | RemoteAddress:
    """One argument that may be a folder, a URL, a mapping or a profile; None: see ``locate``."""
    if given is None or (isinstance(given, RemoteAddress) and namespace is None):
        return locate(namespace=namespace) if given is None else given
    if isinstance(given, (Mapping, RemoteAddress)) or is_url(given):
        return locate(remote=given, namespace=namespace)
    if isinstance(given, str) and given in _profiles():
        if os.path.exists(os.path.join(given, ".dreamlake")):
            raise InvalidInput(f"{given!r} is a profile and a folder with a lake; write ./{given} for the folder")
        return locate(remote=given, namespace=namespace)
    return locate(given, namespace=namespace)


def remote_address(given: Any, *, namespace: str | None = None) -> RemoteAddress:
    """The address of a remote given as a URL, a mapping, or the name of a profile.

    Raises ``InvalidInput`` saying what is wrong and how it is written, ``InvalidType``.
    """
    if isinstance(given, RemoteAddress):
        return replace(given, namespace=_namespace(namespace, given.namespace, None))
    if isinstance(given, Mapping):
        return _of_mapping(given, "remote", namespace, None)
    if not isinstance(given, str):
        raise InvalidType(f"remote must be a URL, a mapping or the name of a profile, not {type(given).__name__}")
    if is_url(given):
        return _of_url(given, namespace)
    profiles = _profiles()
    if given not in profiles:
        known = f"; known are {', '.join(sorted(profiles))}" if profiles else ""
        shown = repr(given) if _PROFILE.fullmatch(given) else "of that name"  # else it may hold a password
        raise InvalidInput(
            f"there is no profile {shown} in {config.config_file()}{known}. Add one with `dreamlake remote add`, or "
            "give a URL: mongodb://host/database or s3://bucket/prefix?mongodb=..."
        )
    secret = next((name for name in _S3_SECRET if name in (profiles[given].get("s3") or ())), None)
    if secret is not None:
        raise InvalidInput(
            f"profile {given}: s3.{secret} does not belong into a file; name the environment variable that holds it: "
            f"{secret}_env"
        )
    return _of_mapping(profiles[given], f"profile {given}", namespace, given)


def check_profile_name(name: str) -> str:
    """A name that a profile may have. Raises ``InvalidInput``."""
    if not _PROFILE.fullmatch(name):
        raise InvalidInput(f"profile {name!r}: use letters, digits, '-' and '_'")
    return name


def _profiles() -> dict[str, Any]:
    found = config.read_file().get("profiles", {})
    if not isinstance(found, dict) or not all(isinstance(profile, dict) for profile in found.values()):
        raise InvalidInput(f"{config.config_file()}: write each profile as a table, [profiles.NAME]")
    return found


# ---- URLs --------------------------------------------------------------------------------------------------------


def _of_url(url: str, namespace: str | None) -> RemoteAddress:
    if url.startswith(_MONGODB):
        return RemoteAddress(_database_url(url), None, _namespace(namespace, None, None))
    if not url.startswith("s3://"):
        scheme = url.partition("://")[0]
        raise InvalidInput(f"remote: {scheme}:// is not known; use mongodb://, mongodb+srv:// or s3://")
    from urllib.parse import parse_qsl, unquote, urlsplit  # only remote lakes have URLs

    head, _, query = url.partition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(pairs) - set(_QUERY))
    if unknown:
        raise InvalidInput(f"remote s3:// URL: unknown option {unknown[0]!r}; known are {', '.join(_QUERY)}")
    parts = urlsplit(head)
    if "@" in head or ":" in parts.netloc:
        raise InvalidInput("remote s3:// URL: credentials do not belong into it; AWS's own ways of giving them work")
    s3: dict[str, Any] = {name: text for name, text in pairs.items() if name not in ("mongodb", "namespace")}
    database = pairs.get("mongodb") or os.environ.get("DREAMLAKE_MONGODB")
    if not database:
        raise InvalidInput(
            f"remote {head}: where is its database? Add ?mongodb=<percent-encoded URL>, or set DREAMLAKE_MONGODB"
        )
    bucket = _bucket({"bucket": unquote(parts.netloc), "prefix": unquote(parts.path), **s3}, "remote s3:// URL")
    return RemoteAddress(_database_url(database), bucket, _namespace(namespace, pairs.get("namespace"), None))


def _database_url(url: Any, where: str = "remote") -> str:
    """A MongoDB URL that names its database. Errors never quote more of it than hosts and database."""
    if not isinstance(url, str):
        raise InvalidType(f"{where}: mongodb must be a URL, not {type(url).__name__}")
    if not url.startswith(_MONGODB):
        raise InvalidInput(f"{where}: a MongoDB URL begins with mongodb:// or mongodb+srv://")
    hosts, _, database = RemoteAddress(url).place.partition("://")[2].partition("/")
    if not hosts:
        raise InvalidInput(f"{where}: the MongoDB URL names no host; write mongodb://host/database")
    if not database or "/" in database:
        raise InvalidInput(f"{where}: the MongoDB URL for {hosts} names no database; write mongodb://{hosts}/database")
    return url


# ---- mappings ----------------------------------------------------------------------------------------------------


def _of_mapping(given: Mapping[str, Any], where: str, namespace: str | None, profile: str | None) -> RemoteAddress:
    _check_keys(given, _KEYS, where)
    url = _database_url(_with_user(_secret(given, "mongodb", where), given, where), where)
    if "s3" in given and "folder" in given:
        raise InvalidInput(f"{where}: the blobs are in s3 or in a folder; give one of them")
    blobs: S3Settings | str | None = None
    if "s3" in given:
        if not isinstance(given["s3"], Mapping):
            raise InvalidInput(f"{where}: s3 must be a table or mapping with at least bucket")
        blobs = _bucket(given["s3"], f"{where}: s3")
    elif "folder" in given:
        folder = os.path.expanduser(_text(given, "folder", where))
        if not os.path.isabs(folder) or "\0" in folder:
            raise InvalidInput(f"{where}: folder must be an absolute path, the same on all machines; not {folder!r}")
        blobs = os.path.normpath(folder)
    name = _text(given, "namespace", where) if "namespace" in given else None
    chosen = _namespace(namespace, None if profile else name, name if profile else None)
    return RemoteAddress(url, blobs, chosen, profile)


def _with_user(url: Any, given: Mapping[str, Any], where: str) -> Any:
    """The database's URL with user and password from the environment variables that are named for them."""
    if not isinstance(url, str) or not ({"mongodb_user_env", "mongodb_password_env"} & given.keys()):
        return url
    user = _variable(given, "mongodb_user_env", where)
    password = _variable(given, "mongodb_password_env", where)
    scheme, mark, rest = url.partition("://")
    if "@" in rest.split("?")[0]:
        raise InvalidInput(f"{where}: the MongoDB URL already names a user; leave out mongodb_user_env")
    from urllib.parse import quote

    return f"{scheme}{mark}{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def _bucket(given: Mapping[str, Any], where: str) -> S3Settings:
    from dreamlake.services.s3_calling import S3Settings

    _check_keys(given, _S3_KEYS, where)
    texts: dict[str, Any] = {name: _text(given, name, where) for name in _S3_TEXT if given.get(name) is not None}
    if not _BUCKET.fullmatch(texts.get("bucket", "")):
        raise InvalidInput(f"{where}: {texts.get('bucket', '')[:80]!r} is no name of a bucket")
    prefix = texts.get("prefix", "").strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise InvalidInput(f"{where}: prefix {prefix[:80]!r} has an empty part, or '.' or '..'")
    endpoint = texts.get("endpoint")
    if endpoint is not None:
        from urllib.parse import urlsplit

        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in endpoint or parts.query:
            raise InvalidInput(f"{where}: endpoint must be a plain URL such as https://s3.example.org:9000")
    if texts.get("addressing", "auto") not in _ADDRESSING:
        raise InvalidInput(f"{where}: addressing={texts['addressing'][:20]!r}; use {', '.join(_ADDRESSING)}")
    secrets = {name: _secret(given, name, where) for name in _S3_SECRET if {name, f"{name}_env"} & given.keys()}
    if ("access_key_id" in secrets) != ("secret_access_key" in secrets):
        raise InvalidInput(f"{where}: access_key_id and secret_access_key go together")
    return S3Settings(**{**texts, "prefix": prefix}, **secrets)


def _check_keys(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(str(key)[:40] for key in given if key not in known)
    if unknown:
        raise InvalidInput(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")


def _text(given: Mapping[str, Any], name: str, where: str) -> str:
    value = given[name]
    if not isinstance(value, str):
        raise InvalidType(f"{where}: {name} must be text, not {type(value).__name__}")
    return value


def _secret(given: Mapping[str, Any], name: str, where: str) -> Any:
    """A setting that may be a secret, itself or in the environment variable that ``<name>_env`` names."""
    if f"{name}_env" in given:
        if name in given:
            raise InvalidInput(f"{where}: {name} and {name}_env say the same; give one of them")
        return _variable(given, f"{name}_env", where)
    if name not in given:
        raise InvalidInput(f"{where}: {name} is missing")
    return _text(given, name, where)


def _variable(given: Mapping[str, Any], name: str, where: str) -> str:
    if name not in given:
        raise InvalidInput(f"{where}: {name} is missing")
    variable = _text(given, name, where)
    value = os.environ.get(variable)
    if not value:
        raise InvalidInput(f"{where}: the environment variable {variable[:80]!r} ({name}) is not set")
    return value


def _namespace(argument: str | None, given: str | None, profile: str | None) -> str:
    """Whose sessions: the argument, the address, ``DREAMLAKE_NAMESPACE``, the profile, the file, the user's name."""
    found: Any = argument or given or os.environ.get("DREAMLAKE_NAMESPACE") or profile
    found = found or config.read_file().get("namespace") or _user()
    if argument == "":
        raise InvalidInput("namespace is empty")
    return check_name(found, "namespace")


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise InvalidInput(
            "whose sessions? This user has no name here: give namespace=..., or set DREAMLAKE_NAMESPACE"
        ) from None
