#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""limn serve under a service manager: what it says on the notify socket, and SIGHUP.

usage: test_notify.py LIMN
"""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request

from verdict import check, end


def main():
    with tempfile.TemporaryDirectory() as folder:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(os.path.join(folder, "notify"))
        manager.settimeout(120)
        config = os.path.join(folder, "limn.conf")

        def settings(text):
            with open(config, "w", encoding="utf-8") as f:
                f.write(text)
            os.chmod(config, 0o600)

        def hear(want):
            """The next state that is not a sign of life (unless one is wanted)."""
            while True:
                said = manager.recv(200).decode()
                if said != "WATCHDOG=1" or want == said:
                    return said.split("\n")[0]

        settings("queue_depth = 50\nlog_format = json\n")
        env = dict(os.environ, NOTIFY_SOCKET=os.path.join(folder, "notify"), WATCHDOG_USEC="300000")
        env.pop("WATCHDOG_PID", None)
        server = subprocess.Popen(
            [sys.argv[1], "serve", "--engine", "stub", "--port", "0", "--config", config, "--data-dir",
             os.path.join(folder, "data")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True)
        base = server.stdout.readline().split()[-1]

        def look(path, **headers):
            with urllib.request.urlopen(urllib.request.Request(base + path, headers=headers), timeout=120) as answer:
                return json.load(answer)

        def depth():
            return look("/v1/system")["queue"]["depth_limit"]

        def logged(words):
            return [line for line in look("/v1/system/logs")["data"] if words in line["message"]]

        def reload(text):
            settings(text)
            server.send_signal(signal.SIGHUP)
            said = [hear("RELOADING=1"), hear("READY=1")]
            check("reloading is told", said == ["RELOADING=1", "READY=1"], said)

        try:
            check("ready", hear("READY=1") == "READY=1")
            check("a sign of life", hear("WATCHDOG=1") == "WATCHDOG=1")
            check("and another", hear("WATCHDOG=1") == "WATCHDOG=1")
            check("as the file says", depth() == 50, depth())
            reload("queue_depth = 60\nlog_format = json\nhttp_threads = 3\ntrash_hours = 7\n")
            check("a new limit", depth() == 60, depth())
            hours = look("/v1/settings")["settings"]["trash_hours"]
            check("what is deleted stays longer, at once", hours == 7, hours)
            fixed = [line["fields"]["setting"] for line in logged("next start")]
            check("what needs a start is named", fixed == ["http_threads"], fixed)
            reload("queue_depth = many\n")
            check("a bad file changes nothing", depth() == 60 and logged("stay as they were"), depth())
            reload("queue_depth = 60\nlog_format = json\nhttp_threads = 3\nlog_requests = off\n")
            look("/v1/jobs", **{"X-Request-Id": "unseen"})
            seen = [line for line in logged("request") if line["fields"].get("request_id") == "unseen"]
            check("requests are no longer logged", not seen, seen)
            key = subprocess.run([sys.argv[1], "key", "create", "me", "admin", "--data-dir",
                                  os.path.join(folder, "data")], capture_output=True, text=True, check=True)
            reload("queue_depth = 70\nlog_format = json\n")
            try:
                depth()
                check("keys hold at once", False)
            except urllib.error.HTTPError as error:
                check("keys hold at once", error.code == 401, error.code)
            check("a key", key.stdout.startswith("lk_"))
            server.send_signal(signal.SIGTERM)
            check("stopping", hear("STOPPING=1") == "STOPPING=1")
            check("clean end", server.wait(120) == 0, server.returncode)
        finally:
            if server.poll() is None:
                server.kill()
    return end()


if __name__ == "__main__":
    sys.exit(main())
