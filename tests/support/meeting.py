"""Members of several servers who meet, as a program for an environment that has aiohttp alone.

`python -c MEET POLLING URL...`: members enter a room at each of the URLs, over WebSockets; at the
last one so many more enter rooms of their own by polling. All of one room know of each other. The
servers come before the proxy: one that a proxy finds down is left out for seconds, and gets its
sessions back in their middle.
"""

MEET = r"""
import asyncio, json, sys, aiohttp

URLS, POLLING = sys.argv[2:], int(sys.argv[1])

def packet(event, user, room, payload="{}"):
    header = {"Event": event, "UserId": user, "RoomId": room}
    return json.dumps({"Header": header, "Payload": payload})

async def up(http, url):
    while True:
        try:
            async with http.get(f"{url}/info") as answer:
                if answer.status == 200:
                    return
                if answer.status == 404:
                    sys.exit(f"{url} is not ours: {await answer.text()}")
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)

async def poll(http, url, number):
    session, room = f"{url}/000/session{number}", f"room{number}"
    async with http.post(f"{session}/xhr") as answer:
        assert await answer.text() == "o\n", answer
    for event in ("connect", "ping", "ping"):
        body = json.dumps([packet(event, "a", room)])
        async with http.post(f"{session}/xhr_send", data=body) as sent:
            assert sent.status == 204, (number, sent.status, await sent.text())
        async with http.post(f"{session}/xhr") as answer:
            text = await answer.text()
            assert text.startswith("a["), (number, text)

async def main():
    async with aiohttp.ClientSession() as http:
        for url in URLS:
            await up(http, url)
        members = []
        for number, url in enumerate([*URLS, *URLS, *URLS]):
            member = await http.ws_connect(f"{url}/websocket")
            await member.send_str(packet("connect", f"u{number}", "hall"))
            while (await member.receive_json())["Header"]["UserId"] != f"u{number}":
                pass
            members.append(member)
        last = f"u{len(members) - 1}"
        for member in members[:-1]:  # another server may hear later that somebody has joined
            while (await member.receive_json())["Header"]["UserId"] != last:
                pass
        for number, member in enumerate(members):
            await member.send_str(packet("ping", f"u{number}", "hall"))
            while (heard := await member.receive_json())["Header"]["Event"] != "ping":
                pass
            assert len(json.loads(heard["Payload"])) == len(members), heard
        await asyncio.gather(*(poll(http, URLS[-1], number) for number in range(POLLING)))
        for member in members:
            await member.close()
    print("all have met")

asyncio.run(asyncio.wait_for(main(), 60))
"""
