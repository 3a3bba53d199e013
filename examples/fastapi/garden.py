"""A FastAPI site that gives its users tokens, and shows who is in which room.

It needs nothing of videre: tokens are JWTs, and the admin API is HTTP.
"""

import os
import time
from pathlib import Path
from typing import Annotated

import httpx
import jwt
from fastapi import Cookie, FastAPI, Form, HTTPException, Response
from fastapi.responses import FileResponse

SECRET = os.environ["VIDERE_SECRET"]  # the one in the server's Auth.Secrets
ADMIN = os.environ["VIDERE_ADMIN"]  # the URL of the server's admin port
SIGNALLING = os.environ["VIDERE_URL"]  # its prefix, as browsers reach it

USERS = {"ann": "ann's password", "bob": "bob's password"}  # replace these with your own
ROOMS = {"garden": {"ann", "bob"}}

app = FastAPI()
Session = Annotated[str | None, Cookie()]


def signed(seconds: float, **claims: str) -> str:
    """Return a JWT that expires in this many seconds."""
    return jwt.encode({**claims, "exp": time.time() + seconds}, SECRET, "HS256")


def user_of(session: str | None) -> str:
    """Return the logged-in user."""
    try:
        return str(jwt.decode(session or "", SECRET, ["HS256"], audience="site")["sub"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Please log in") from None


@app.get("/")
def page() -> FileResponse:
    """Show the page."""
    return FileResponse(Path(__file__).with_name("index.html"))


@app.post("/login")
def login(
    response: Response, user: Annotated[str, Form()], password: Annotated[str, Form()]
) -> dict[str, str]:
    """Log in with a form."""
    if USERS.get(user) != password:
        raise HTTPException(401, "No such user or password")
    # The audience prevents the use of a login as a token for a room, and the reverse.
    session = signed(3600, sub=user, aud="site")
    response.set_cookie("session", session, httponly=True, samesite="strict")
    return {"user": user}


@app.post("/token/{room}")
def token(room: str, session: Session = None) -> dict[str, str]:
    """Sign a token for the logged-in user and a room, valid for five minutes."""
    user = user_of(session)
    if user not in ROOMS.get(room, ()):
        raise HTTPException(403, "Not for you")
    return {"url": SIGNALLING, "user": user, "token": signed(300, sub=user, room=room)}


@app.get("/rooms/{room}/members")
def members(room: str, session: Session = None) -> list[str]:
    """Return who is in a room now, as the signalling server says."""
    if user_of(session) not in ROOMS.get(room, ()):
        raise HTTPException(403, "Not for you")
    answer = httpx.get(f"{ADMIN}/api/v1/members", params={"room": room})
    if answer.status_code == 404:  # nobody is there
        return []
    return list(answer.raise_for_status().json()["Members"])
