"""A stand-in for Supabase Storage: rows in storage.objects, bytes in a folder.

Every row is read and written as the caller's role, so the database's own policies decide.
Refusals have the real server's texts; nearly all are HTTP 400 with the true status in the body.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.support.supabase.keys import KeyRing
from tests.support.supabase.messages import Reply, Request, json_reply
from tests.support.supabase.multipart import Upload, read_upload
from tests.support.supabase.storage_rows import (
    Claims,
    Connection,
    Refused,
    Row,
    become,
    bucket_not_found,
    find_bucket,
    find_object,
    insertion,
    object_not_found,
    transaction,
)

FREE_TIER_FILE_LIMIT = 50 * 1024 * 1024
DEFAULT_LIST_LIMIT = 100
# The characters S3 calls safe; a hyphen that is last is no range.
VALID_KEY = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+")
SORTABLE = {"name", "updated_at", "created_at", "last_accessed_at"}


@dataclass(slots=True)
class Storage:
    """Answers requests below `/storage/v1`.

    `file_size_limit` is in bytes; `capacity`, in bytes over all objects, is None while the disk
    has room: set it to make the disk run full.
    """

    dsn: str
    folder: Path
    keys: KeyRing
    file_size_limit: int = FREE_TIER_FILE_LIMIT
    capacity: int | None = None
    routes: list[tuple[str, str, Callable[..., Reply]]] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        key = r"/([^/]+)/(.+)"
        self.routes = [
            ("GET", r"/bucket", self.list_buckets),
            ("POST", r"/bucket", self.create_bucket),
            ("GET", r"/bucket/([^/]+)", self.get_bucket),
            ("DELETE", r"/bucket/([^/]+)", self.delete_bucket),
            ("POST", r"/object/list/([^/]+)", self.list_objects),
            ("POST", rf"/object/sign{key}", self.sign),
            ("GET", rf"/object/sign{key}", self.download_signed),
            ("GET", rf"/object/info(?:/authenticated)?{key}", self.info),
            ("HEAD", rf"/object(?:/authenticated)?{key}", self.head),
            ("GET", rf"/object(?:/authenticated|/public)?{key}", self.download),
            ("POST", rf"/object{key}", self.upload),
            ("PUT", rf"/object{key}", self.upload),
            ("DELETE", rf"/object{key}", self.remove_one),
            ("DELETE", r"/object/([^/]+)", self.remove),
        ]

    def __call__(self, request: Request) -> Reply:
        """Serve one request."""
        path = "/" + "/".join(request.segments)
        for method, pattern, handler in self.routes:
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                try:
                    return handler(request, *match.groups())
                except Refused as refusal:
                    return json_reply(refusal.http, refusal.body)
        missing = {"message": f"Route {request.method}:{path} not found", "error": "Not Found"}
        return json_reply(404, missing | {"statusCode": 404})

    def forget_orphans(self) -> None:
        """Delete bytes that no row names any more; put all limits back."""
        self.file_size_limit, self.capacity = FREE_TIER_FILE_LIMIT, None
        with transaction(self.dsn) as database:
            rows = database.execute("select version from storage.objects").fetchall()
        named = {row["version"] for row in rows}
        for file in self.folder.iterdir():
            if file.name not in named:
                file.unlink()

    # -- buckets

    def list_buckets(self, request: Request) -> Reply:
        with self._as(self._claims(request)) as database:
            rows = database.execute("select * from storage.buckets order by id").fetchall()
        return json_reply(200, [_bucket(row) for row in rows])

    def get_bucket(self, request: Request, bucket: str) -> Reply:
        with self._as(self._claims(request)) as database:
            return json_reply(200, _bucket(find_bucket(database, bucket)))

    def create_bucket(self, request: Request) -> Reply:
        wanted = request.json()
        values = {
            "id": wanted.get("id") or wanted["name"],
            "name": wanted["name"],
            "public": bool(wanted.get("public")),
            "limit": wanted.get("file_size_limit"),
            "types": wanted.get("allowed_mime_types"),
        }
        with self._as(self._claims(request)) as database:
            database.execute(
                "insert into storage.buckets"
                " (id, name, public, file_size_limit, allowed_mime_types)"
                " values (%(id)s, %(name)s, %(public)s, %(limit)s, %(types)s)",
                values,
            )
        return json_reply(200, {"name": wanted["name"]})

    def delete_bucket(self, request: Request, bucket: str) -> Reply:
        with self._as(self._claims(request)) as database:
            find_bucket(database, bucket)
            if database.execute(
                "select from storage.objects where bucket_id = %s", [bucket]
            ).fetchone():
                raise Refused(409, "InvalidRequest", "The bucket you tried to delete is not empty")
            database.execute("set local storage.allow_delete_query = 'true'")
            database.execute("delete from storage.buckets where id = %s", [bucket])
        return json_reply(200, {"message": "Successfully deleted"})

    # -- objects

    def upload(self, request: Request, bucket: str, key: str) -> Reply:
        claims = self._claims(request)
        _check_key(key)
        upload = read_upload(request.headers.get("Content-Type", ""), request.body)
        row = _new_row(bucket, key, upload, claims)
        upsert = request.method == "PUT" or request.headers.get("x-upsert") == "true"
        file = self.folder / row["version"]
        try:
            with transaction(self.dsn) as database:
                self._check_size(database, find_bucket(database, bucket), len(upload.content))
                become(database, claims)
                # No RETURNING: whoever may insert may not always read.
                database.execute(insertion(row, upsert=upsert), row)
                file.write_bytes(upload.content)
        except Refused:
            file.unlink(missing_ok=True)
            raise
        return json_reply(200, {"Id": row["id"], "Key": f"{bucket}/{key}"})

    def _check_size(self, database: Connection, bucket: Row, size: int) -> None:
        limit = min(self.file_size_limit, bucket["file_size_limit"] or self.file_size_limit)
        if size > limit:
            raise Refused(413, "Payload too large", "The object exceeded the maximum allowed size")
        if self.capacity is None:
            return
        total = "select coalesce(sum((metadata ->> 'size')::bigint), 0) as n from storage.objects"
        row = database.execute(total).fetchone()
        if row is None or row["n"] + size > self.capacity:
            raise Refused(500, "Error", "ENOSPC: no space left on device, write", http=500)

    def download(self, request: Request, bucket: str, key: str) -> Reply:
        row = self._readable(request, bucket, key)
        return self._content(row)

    def head(self, request: Request, bucket: str, key: str) -> Reply:
        row = self._readable(request, bucket, key)
        size = int(row["metadata"]["size"])
        return Reply(status=200, headers=_headers(row), length=size)

    def info(self, request: Request, bucket: str, key: str) -> Reply:
        row = self._readable(request, bucket, key)
        about = row["metadata"]
        names = ("id", "name", "version", "bucket_id", "created_at")
        known = {
            "size": about["size"],
            "content_type": about["mimetype"],
            "cache_control": about["cacheControl"],
            "etag": about["eTag"],
            "metadata": row["user_metadata"],
            "last_modified": row["updated_at"],
        }
        return json_reply(200, {name: row[name] for name in names} | known)

    def sign(self, request: Request, bucket: str, key: str) -> Reply:
        with self._as(self._claims(request)) as database:
            find_object(database, bucket, key)
        now = int(time.time())
        expires = now + int(request.json()["expiresIn"])
        claims = {"url": f"{bucket}/{key}", "iat": now, "exp": expires}
        token = jwt.encode(claims, self.keys.jwt_secret, algorithm="HS256")
        return json_reply(200, {"signedURL": f"{request.path}?token={token}"})

    def download_signed(self, request: Request, bucket: str, key: str) -> Reply:
        try:
            claims = self.keys.claims(request.parameter("token"))
        except jwt.ExpiredSignatureError:
            message = '"exp" claim timestamp check failed'
            raise Refused(400, "InvalidJWT", message) from None
        except jwt.InvalidTokenError:
            raise Refused(400, "InvalidJWT", "Invalid Compact JWS") from None
        if claims.get("url") != f"{bucket}/{key}":
            raise Refused(400, "InvalidSignature", "Invalid signature")
        with transaction(self.dsn) as database:
            return self._content(find_object(database, bucket, key))

    def list_objects(self, request: Request, bucket: str) -> Reply:
        asked = request.json()
        prefix = asked["prefix"].rstrip("/") + "/" if asked["prefix"] else ""
        with self._as(self._claims(request)) as database:
            rows = database.execute(
                "select * from storage.objects where bucket_id = %s and starts_with(name, %s)"
                " order by name",
                [bucket, prefix + asked.get("search", "")],
            ).fetchall()
        entries = _sorted(list(_level(rows, prefix)), asked.get("sortBy") or {})
        start = asked.get("offset") or 0
        return json_reply(200, entries[start : start + (asked.get("limit") or DEFAULT_LIST_LIMIT)])

    def remove_one(self, request: Request, bucket: str, key: str) -> Reply:
        if not self._delete(self._claims(request), bucket, [key]):
            raise object_not_found()
        return json_reply(200, {"message": "Successfully deleted"})

    def remove(self, request: Request, bucket: str) -> Reply:
        rows = self._delete(self._claims(request), bucket, request.json()["prefixes"])
        return json_reply(200, rows)

    def _delete(self, claims: Claims, bucket: str, keys: list[str]) -> list[Row]:
        with self._as(claims) as database:
            database.execute("set local storage.allow_delete_query = 'true'")
            rows = database.execute(
                "delete from storage.objects where bucket_id = %s and name = any(%s) returning *",
                [bucket, keys],
            ).fetchall()
        for row in rows:
            (self.folder / row["version"]).unlink(missing_ok=True)
        return rows

    def _readable(self, request: Request, bucket: str, key: str) -> Row:
        """Find an object for reading; a bad token is no error here but an unknown caller."""
        try:
            claims = self._claims(request)
        except Refused:
            claims = None
        with transaction(self.dsn) as database:
            found = find_bucket(database, bucket)
            if found["public"]:
                return find_object(database, bucket, key)
            if claims is None:
                raise bucket_not_found()
            _check_key(key)
            become(database, claims)
            return find_object(database, bucket, key)

    def _content(self, row: Row) -> Reply:
        content = (self.folder / row["version"]).read_bytes()
        return Reply(status=200, headers=_headers(row), body=content)

    # -- who asks

    def _claims(self, request: Request) -> dict[str, Any]:
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        try:
            return self.keys.claims(token)
        except jwt.ExpiredSignatureError:
            message = '"exp" claim timestamp check failed'
        except jwt.InvalidTokenError:
            message = "Invalid Compact JWS"
        raise Refused(403, "Unauthorized", message)

    @contextmanager
    def _as(self, claims: Claims) -> Iterator[Connection]:
        """Open a transaction as the caller; which the policies see."""
        with transaction(self.dsn) as database:
            become(database, claims)
            yield database


def _check_key(key: str) -> None:
    if not VALID_KEY.fullmatch(key):
        raise Refused(400, "InvalidKey", f"Invalid key: {key}")


def _new_row(bucket: str, key: str, upload: Upload, claims: Claims) -> Row:
    digest = hashlib.md5(upload.content, usedforsecurity=False).hexdigest()
    metadata = {
        "eTag": f'"{digest}"',
        "size": len(upload.content),
        "mimetype": upload.content_type,
        "cacheControl": f"max-age={upload.fields.get('cacheControl', '3600')}",
        "contentLength": len(upload.content),
        "httpStatusCode": 200,
    }
    return {
        "id": str(uuid4()),
        "bucket_id": bucket,
        "name": key,
        "owner_id": (claims or {}).get("sub"),
        "version": str(uuid4()),
        "metadata": Jsonb(metadata),
        "user_metadata": Jsonb(json.loads(upload.fields.get("metadata", "null"))),
    }


def _bucket(row: Row) -> Row:
    # The client insists on a text here, null or not in the table.
    return row | {"owner": row["owner"] or ""}


def _headers(row: Row) -> list[tuple[str, str]]:
    about = row["metadata"]
    return [
        ("Content-Type", about["mimetype"]),
        ("ETag", about["eTag"]),
        ("Cache-Control", about["cacheControl"]),
        ("Accept-Ranges", "bytes"),
    ]


def _level(rows: list[DictRow], prefix: str) -> Iterator[Row]:
    """Yield what is directly below `prefix`: objects, and folders once each, without an id."""
    columns = ("id", "updated_at", "created_at", "last_accessed_at", "metadata")
    folders: set[str] = set()
    for row in rows:
        name, slash, _ = row["name"].removeprefix(prefix).partition("/")
        if not slash:
            yield {"name": name} | {column: row[column] for column in columns}
        elif name not in folders:
            folders.add(name)
            yield {"name": name} | dict.fromkeys(columns)


def _sorted(entries: list[Row], sort_by: dict[str, str]) -> list[Row]:
    column = sort_by.get("column", "name")
    if column not in SORTABLE:
        raise Refused(400, "InvalidRequest", "body/sortBy/column must be equal to one of them")
    backwards = sort_by.get("order") == "desc"
    return sorted(entries, key=lambda entry: str(entry[column] or ""), reverse=backwards)
