"""How to test an OAuth client in Python: GRANTLING=path/to/grantling python3 -m unittest discover examples/python"""

import base64, hashlib, json, os, secrets, subprocess, unittest
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "fixtures.json")


def token(url, **form):
    """The client under test: it asks the token endpoint, and once more when that is busy."""
    basic = base64.b64encode(b"web:web-secret").decode()
    for last in (False, True):
        request = Request(url + "/oauth/token", urlencode(form).encode(), {"Authorization": "Basic " + basic})
        try:
            with urlopen(request) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                if error.code != 503 or last:
                    raise


class ClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = subprocess.Popen(  # it stops when standard input ends, however this test does
            [os.environ.get("GRANTLING", "grantling"), "-addr", "127.0.0.1:0", "-db", ":memory:", "-control",
             "-stop-with-stdin", "-log", "off", "-fixtures", FIXTURES],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.url = cls.server.stdout.readline().strip()

    @classmethod
    def tearDownClass(cls):
        cls.server.communicate()

    def control(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}/_control/{path}", data, method=method)) as answer:
            return json.load(answer)

    def test_signs_in_and_refreshes(self):
        state, verifier = secrets.token_urlsafe(), secrets.token_urlsafe(32)
        digest = hashlib.sha256(verifier.encode()).digest()
        authorization = self.url + "/oauth/authorize?" + urlencode({
            "response_type": "code", "client_id": "web", "state": state, "code_challenge_method": "S256",
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("=")})
        back = self.control("POST", "authorize", {"url": authorization, "username": "alice", "decision": "approve"})
        callback = parse_qs(urlsplit(back["redirect_to"]).query)
        self.assertEqual(callback["state"], [state])
        first = token(self.url, grant_type="authorization_code", code=callback["code"][0], code_verifier=verifier)

        self.control("POST", "clock", {"advance": "2h"})  # the access token expires
        self.control("POST", "faults", {"endpoint": "token", "status": 503})
        second = token(self.url, grant_type="refresh_token", refresh_token=first["refresh_token"])
        self.assertNotEqual(second["access_token"], first["access_token"])

        requests = self.control("GET", "requests")
        self.assertEqual([(r["endpoint"], r["status"]) for r in requests],
                         [("authorize", 303), ("token", 200), ("token", 503), ("token", 200)])
        self.assertEqual(requests[3]["flow"], requests[0]["flow"])
        self.assertEqual([w for r in requests for w in r["warnings"]], [])


if __name__ == "__main__":
    unittest.main()
