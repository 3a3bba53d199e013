"""A client of GNOME's HTTP library: soup_client.py URL [PROTOCOL...], for Debian's own Python.

It prints what was agreed as JSON, then each message in a line of its own, and sends each line that
it reads.
"""

import json
import sys

import gi

gi.require_version("Soup", "3.0")
from gi.repository import GLib, Soup  # noqa: E402  # after its version was chosen


def main(url: str, *protocols: str) -> None:
    """Connect, and pass lines both ways until the connection is closed."""
    loop = GLib.MainLoop()
    said = open(0, "rb", buffering=0)  # noqa: SIM115  # for as long as we run

    def connected(session: Soup.Session, result: object) -> None:
        try:
            connection = session.websocket_connect_finish(result)
        except GLib.Error as error:
            print(json.dumps({"error": error.message}), flush=True)
            loop.quit()
            return
        agreed = {
            "protocol": connection.get_protocol(),
            "extensions": [type(each).__name__ for each in connection.get_extensions()],
        }
        print(json.dumps(agreed), flush=True)
        connection.connect("message", lambda _, kind, data: print(data.get_data().decode()))
        connection.connect("message", lambda *_: sys.stdout.flush())
        connection.connect("closed", lambda _: loop.quit())
        lines = GLib.IOChannel.unix_new(said.fileno())
        GLib.io_add_watch(lines, 0, GLib.IOCondition.IN, read, connection)

    def read(_: object, __: object, connection: Soup.WebsocketConnection) -> bool:
        line = said.readline()
        if line:
            connection.send_text(line.decode().rstrip("\n"))
        return bool(line)

    session = Soup.Session()
    session.add_feature_by_type(Soup.WebsocketExtensionManager)  # as WebKitGTK does: it has deflate
    session.websocket_connect_async(
        Soup.Message.new("GET", url), None, protocols, GLib.PRIORITY_DEFAULT, None, connected
    )
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
