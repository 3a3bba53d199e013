"""An aiohttp site with a login, whose users meet in its rooms: site.py [PORT]."""

import secrets
import sys
import time
from pathlib import Path

from aiohttp import web

import videre
from videre.auth import TokenAuth, secret_key, sign

USERS = {"ann": "ann's password", "bob": "bob's password"}  # replace these by your own
ROOMS = {"garden": {"ann", "bob"}, "cellar": {"bob"}}

HERE = Path(__file__).parent
KEY = secret_key(secrets.token_urlsafe(32))  # only this process knows it: it signs and verifies
SESSIONS: dict[str, str] = {}  # cookie -> user
SECONDS = 300  # for which a token is good; the client asks for a new one when it needs it

routes = web.RouteTableDef()


def user_of(request: web.Request) -> str | None:
    """Return who has logged in, if anybody has."""
    return SESSIONS.get(request.cookies.get("session", ""))


def admitted(request: web.Request) -> str:
    """Return who has logged in; raise an answer unless that user may enter the room in the path."""
    if (user := user_of(request)) is None:
        raise web.HTTPUnauthorized(text="Please log in")
    if user not in ROOMS.get(request.match_info["room"], ()):
        raise web.HTTPForbidden(text="Not for you")
    return user


@routes.get("/")
async def index(request: web.Request) -> web.FileResponse:
    """Show the login, or the rooms to who has logged in."""
    return web.FileResponse(HERE / ("rooms.html" if user_of(request) else "login.html"))


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Log in with a form."""
    form = await request.post()
    user, password = str(form.get("user")), str(form.get("password"))
    known = USERS.get(user)
    if known is None or not secrets.compare_digest(known.encode(), password.encode()):
        raise web.HTTPUnauthorized(text="No such user or password")
    session = secrets.token_urlsafe(32)
    SESSIONS[session] = user
    answer = web.HTTPSeeOther("/")
    answer.set_cookie("session", session, httponly=True, samesite="Strict", secure=request.secure)
    return answer


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """Log out, and leave all rooms."""
    user = SESSIONS.pop(request.cookies.get("session", ""), None)
    if user is not None and user not in SESSIONS.values():
        for room in ROOMS:
            await rooms.kick(room, user, "You have logged out")
    answer = web.HTTPSeeOther("/")
    answer.del_cookie("session")
    return answer


@routes.get("/me")
async def me(request: web.Request) -> web.Response:
    """Say who has logged in, and which rooms that user may enter."""
    user = user_of(request)
    return web.json_response(
        {"user": user, "rooms": [room for room, users in ROOMS.items() if user in users]}
    )


@routes.get("/rooms/{room}")
async def room(request: web.Request) -> web.FileResponse:
    """Show a room."""
    admitted(request)
    return web.FileResponse(HERE / "room.html")


@routes.post("/rooms/{room}/token")
async def token(request: web.Request) -> web.Response:
    """Give who has logged in a token for a room, as this user and no other."""
    user = admitted(request)
    signed = sign(KEY, user, request.match_info["room"], now=time.time(), ttl=SECONDS)
    return web.Response(text=signed)


app = web.Application()
app.add_routes(routes)
rooms = videre.setup(app, prefix="/echo", config=videre.Config(auth=TokenAuth([KEY]))).rooms

if __name__ == "__main__":
    web.run_app(app, host="localhost", port=int(sys.argv[1]) if sys.argv[1:] else 8000)
