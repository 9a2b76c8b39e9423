"""What changes while the program runs, and what must not."""

import os
import shutil
import signal
import ssl
import threading
import time
import traceback

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

import ports
import wire
from conftest import GATE, LEGACY, RECORDER
from forge import header
from gate import Client, ReSign, Route
from identity import EVERYTHING, MEDIA, STUDIO_KEY, process_credential
from pki import Authority, Identity
from seaweed import HOST
from sigv4 import Key
from upstream import answer

OTHER_KEY = Key("AKOTHER0000000000001", "TheOtherSecretIsForTestsOnly000000000001")
PIECES, PIECE = 40, bytes(range(256)) * 256


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def upstream(spare_upstream):
    made = spare_upstream()
    made.script = answer(ok(b"one"))
    return made


@pytest.fixture
def route(upstream, authority):
    return Route([RECORDER], [upstream.address], HOST, ca=authority.ca)


def get(connection, path: str = "/a", host: str | None = "") -> tuple[int, bytes]:
    response = connection.exchange("GET", path, host=host)
    return response.status, response.body


def serial(gate, session=None) -> int:
    """The number of the certificate a new connection sees."""
    with gate.connect(session=session) as connection:
        return x509.load_der_x509_certificate(connection.sock.getpeercert(True)).serial_number


def number(identity: Identity) -> int:
    return x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number


def replace(source, target) -> None:
    """In one step, as a rename does."""
    beside = target.with_suffix(".new")
    shutil.copy(source, beside)
    os.replace(beside, target)


@pytest.fixture
def own_identity(authority, tmp_path):
    """A pair of files of its own, to be replaced."""
    made = authority.issue(RECORDER, "localhost")
    pair = Identity(tmp_path / "chain.pem", tmp_path / "key.pem")
    replace(made.certificate, pair.certificate)
    replace(made.key, pair.key)
    return pair


def test_transfers_under_way_are_not_cut_and_their_route_may_be_gone(start_gate, route, upstream, spare_upstream):
    gate, other = start_gate(route), spare_upstream()
    go, half = threading.Event(), threading.Semaphore(0)

    def script(request, peer):
        if request.method == "PUT":
            half.release()
            peer.read_body(request)
            peer.send(ok(b"stored"))
            return
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PIECES * len(PIECE)))
        for at in range(PIECES):
            if at == PIECES // 2:
                half.release()
                assert go.wait(30)
            peer.send(PIECE)

    upstream.script = script
    bodies = {}

    def download():
        with gate.connect() as connection:
            bodies["down"] = connection.exchange("GET", "/long").body

    def upload():
        with gate.connect() as connection:
            connection.send(connection.head("PUT", "/long", [("Content-Length", str(PIECES * len(PIECE)))]))
            for at in range(PIECES):
                if at == PIECES // 2:
                    assert go.wait(30)
                connection.send(PIECE)
            bodies["up"] = connection.response("PUT").body

    threads = [threading.Thread(target=each) for each in (download, upload)]
    for each in threads:
        each.start()
    for _ in threads:
        assert half.acquire(timeout=20)
    gate.routes = [Route([LEGACY], [other.address], HOST, ca=route.ca)]
    assert gate.reload()
    with gate.connect(LEGACY) as connection:
        assert get(connection, host=LEGACY)[0] == 200
        assert get(connection, host=RECORDER)[0] == 421
    go.set()
    for each in threads:
        each.join(30)
    assert bodies == {"down": PIECE * PIECES, "up": b"stored"}
    sent = next(request for request in upstream.requests if request.method == "PUT")
    assert sent.whole and sent.body == PIECE * PIECES


def test_the_next_request_of_a_kept_connection_goes_where_the_new_routes_say(
    start_gate, route, upstream, spare_upstream
):
    gate, other = start_gate(route, workers=2), spare_upstream()
    other.script = answer(ok(b"two"))
    with gate.connect() as connection:
        assert get(connection) == (200, b"one")
        # Another one in front: indices change.
        gate.routes = [Route([LEGACY], [other.address], HOST, ca=route.ca), route]
        assert gate.reload()
        assert get(connection) == (200, b"one")
        assert get(connection, host=LEGACY) == (200, b"two")
        assert len(upstream.peers) == 1, "the connection to an upstream that stays is kept"
        gate.routes = gate.routes[:1]
        assert gate.reload()
        ports.poll("the end of the connection to an upstream that went", lambda: upstream.peers[0].closed_at, 3)
        assert get(connection, host=RECORDER)[0] == 421
        assert get(connection, host=LEGACY) == (200, b"two")
        assert len(other.peers) == 1


def test_a_bad_configuration_is_refused_whole_with_all_reasons_and_the_old_one_serves(start_gate, route, tmp_path):
    gate = start_gate(route)
    good = gate.config.read_text()
    bad = good.replace('min-version = "1.2"', 'min-version = "1.1"').replace("region =", "regoin =")
    assert not gate.reload(bad.replace(RECORDER, LEGACY))
    said = gate.output()
    assert "min-version" in said and "regoin" in said and "keeps serving" in said
    chain = str(gate.identities[0].certificate)
    for broken in (good.replace(chain, chain + ".gone"), "listen", good.replace(str(route.ca), str(tmp_path / "no.pem"))):
        assert broken != good
        assert not gate.reload(broken)
    gate.config.unlink()
    gate.process.send_signal(signal.SIGHUP)
    ports.poll("that a missing file is named", lambda: "does not exist; make one with" in gate.output())
    with gate.connect() as connection:
        assert get(connection) == (200, b"one")
    assert gate.reload()


def test_what_needs_a_restart_is_named_and_the_rest_is_in_force(start_gate, route, tmp_path):
    gate = start_gate(route, workers=1)
    text = gate.config.read_text().replace("count = 1", "count = 2").replace(RECORDER, LEGACY)
    text = text.replace(f"127.0.0.1:{gate.admin}", f"127.0.0.1:{ports.free()}")
    moved = tmp_path / "moved.log"
    text = text.replace(str(gate.log), str(moved)) + '[log]\nlevel = "debug"\n'
    assert gate.reload(text)
    warned = next(line for line in gate.output().splitlines() if "need a restart" in line)
    assert "workers.count" in warned and "listen.admin" in warned and "listen.https" not in warned
    with gate.connect(LEGACY) as connection:
        assert get(connection) == (200, b"one")
    assert ports.answers(gate.https)
    ports.poll("what is said at this level", lambda: "DEBUG" in gate.output(), 5)
    ports.poll("a record in the new log", lambda: moved.exists() and LEGACY in moved.read_text(), 5)
    assert ports.answers(gate.admin)


def test_a_new_certificate_is_seen_after_a_reload_and_tickets_last_as_long_as_the_old_one(
    start_gate, route, own_identity, authority
):
    gate = start_gate(route, identities=[own_identity])
    before = number(own_identity)
    context = wire.client_context(version=ssl.TLSVersion.TLSv1_3)
    with gate.connect(context=context) as connection:
        get(connection)
        session = connection.sock.session
    assert gate.reload()
    with gate.connect(context=context, session=session) as connection:
        assert connection.sock.session_reused, "nothing changed"
        get(connection)
        new = authority.issue(RECORDER, "localhost")
        gate.identities = [new]
        assert gate.reload()
        assert serial(gate) == number(new) != before
        assert get(connection) == (200, b"one"), "the connection of before goes on"
    with gate.connect(context=context, session=session) as connection:
        assert not connection.sock.session_reused


def test_replaced_files_are_noticed_but_not_before_they_belong_together(start_gate, route, own_identity, authority):
    gate = start_gate(route, identities=[own_identity])
    before, new = number(own_identity), authority.issue(RECORDER, "localhost")
    replace(new.certificate, own_identity.certificate)
    ports.poll("a complaint", lambda: "those in use are kept" in gate.output(), 15)
    time.sleep(5)
    assert gate.output().count("those in use are kept") == 1, "it is said once"
    assert serial(gate) == before
    assert not gate.reload(), "nor is it taken by a reload"
    replace(new.key, own_identity.key)
    ports.poll("the new certificate", lambda: serial(gate) == number(new), 15)
    assert "certificates have changed: new" in gate.output()


def test_a_pair_that_is_broken_keeps_its_place_and_holds_up_no_other(start_gate, route, own_identity, authority, tmp_path):
    """As when one of two names is retired and its files are deleted."""
    made, retired = authority.issue(LEGACY), Identity(tmp_path / "old.pem", tmp_path / "old-key.pem")
    replace(made.certificate, retired.certificate)
    replace(made.key, retired.key)
    gate = start_gate(route, identities=[own_identity, retired])

    def shown(name):
        with gate.connect(name) as connection:
            return x509.load_der_x509_certificate(connection.sock.getpeercert(True)).serial_number

    retired.certificate.unlink()
    ports.poll("a complaint", lambda: "those in use are kept" in gate.output(), 15)
    assert str(retired.certificate) in gate.output()
    new = authority.issue(RECORDER, "localhost")
    replace(new.certificate, own_identity.certificate)
    replace(new.key, own_identity.key)
    ports.poll("the new certificate", lambda: serial(gate) == number(new), 15)
    assert shown(LEGACY) == number(made)
    assert gate.output().count("those in use are kept") == 1
    later = authority.issue(LEGACY)
    replace(later.key, retired.key)
    replace(later.certificate, retired.certificate)
    ports.poll("the other one", lambda: shown(LEGACY) == number(later), 15)


def test_what_is_put_in_the_place_of_a_certificate_hangs_nothing(start_gate, route, own_identity):
    gate = start_gate(route, identities=[own_identity])
    own_identity.certificate.unlink()
    os.mkfifo(own_identity.certificate)
    ports.poll("a complaint", lambda: "no ordinary file" in gate.output(), 15)
    assert not gate.reload()
    own_identity.certificate.unlink()
    own_identity.certificate.symlink_to("/dev/zero")
    before = gate.memory_kib()
    time.sleep(5)
    assert gate.memory_kib() < before + 1024
    with gate.connect() as connection:
        assert get(connection) == (200, b"one")
    began = time.monotonic()
    assert gate.stop() == 0
    assert time.monotonic() - began < 5


def test_a_link_that_is_turned_is_noticed(start_gate, route, authority, tmp_path):
    """As certbot does: live/NAME/*.pem are links into archive/NAME."""
    first, second = (authority.issue(RECORDER, "localhost", days=days) for days in (30, 4.5))
    live = Identity(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")

    def turn(to: Identity) -> None:
        for link, target in ((live.certificate, to.certificate), (live.key, to.key)):
            beside = link.with_suffix(".new")
            beside.symlink_to(target)
            os.replace(beside, link)

    turn(first)
    gate = start_gate(route, identities=[live])
    assert serial(gate) == number(first)
    turn(second)
    ports.poll("the new certificate", lambda: serial(gate) == number(second), 15)
    ports.poll("a warning that it ends soon", lambda: "in 4 days" in gate.output(), 5)


def test_check_names_certificates_that_end_or_are_for_others(start_gate, route, authority, tmp_path):
    from gate import Gate, binary
    from programs import run

    def checked(*identities):
        gate = Gate(tmp_path, list(identities), [route], limits={})
        gate.https, gate.admin, gate.http = 1, 2, None
        gate.log, config = tmp_path / "log", tmp_path / "filmgate.toml"
        config.write_text(gate._toml())
        done = run(binary(), "check", "--config", config, check=False, text=True)
        return done.returncode, done.stdout + done.stderr

    good, ending = authority.issue(RECORDER, "localhost"), authority.issue(RECORDER, days=3.5)
    expired, foreign = authority.issue(RECORDER, days=-0.01), authority.issue("other.test")
    for each in (good, ending, expired, foreign):
        each.key.chmod(0o600)
    # There may be something to say of the machine.
    status, said = checked(good)
    assert status == 0 and "tls." not in said and "route[" not in said
    status, said = checked(ending)
    assert status == 0 and "in 3 days" in said and "warning" in said
    status, said = checked(expired)
    assert status == 2 and "expired on" in said
    status, said = checked(good, expired)
    assert status == 0 and "expired on" in said and "warning" in said
    status, said = checked(foreign)
    assert status == 0 and f"no certificate of [tls] is for {RECORDER}" in said


@pytest.fixture
def signing_gate(start_gate, upstream, authority, resign_identity, tmp_path):
    resign = ReSign("role", allow=[{"clients": ["*"], "operations": EVERYTHING}])
    route = Route([MEDIA], [upstream.address], HOST, ca=authority.ca, resign=resign)
    clients = [Client("studio", STUDIO_KEY), Client("other", OTHER_KEY)]
    credentials = [process_credential(tmp_path / "signing.json")]
    return start_gate(route, identities=[resign_identity], clients=clients, credentials=credentials)


def test_a_revoked_client_is_refused_at_its_next_request(signing_gate):
    def asks(connection, key):
        connection.send(header(target="/a", host=MEDIA, key=key).data())
        return connection.response().status

    with signing_gate.connect() as connection:
        assert [asks(connection, key) for key in (OTHER_KEY, STUDIO_KEY)] == [200, 200]
        signing_gate.clients.pop()
        assert signing_gate.reload()
        assert asks(connection, OTHER_KEY) == 403
    with signing_gate.connect() as connection:
        assert [asks(connection, key) for key in (OTHER_KEY, STUDIO_KEY)] == [403, 200]
        signing_gate.clients.append(Client("other", OTHER_KEY))
        assert signing_gate.reload()
        assert asks(connection, OTHER_KEY) == 200


def test_credentials_come_go_and_stay(signing_gate, tmp_path, upstream):
    """What signs changes with the configuration, and what has not changed is not asked for again."""

    def signed_by():
        with signing_gate.connect() as connection:
            connection.send(header(target="/a", host=MEDIA, key=STUDIO_KEY).data())
            assert connection.response().status == 200
        return upstream.requests[-1].get("authorization").partition("Credential=")[2].partition("/")[0]

    first = signed_by()
    (tmp_path / "signing.json").unlink()
    assert signing_gate.reload() and signed_by() == first
    other = Key("ASIAGATESOTHER000001", "TheGatesOtherSecretForTests0000000000001", "token-of-the-gate/" + "y" * 80)
    signing_gate.credentials = [process_credential(tmp_path / "other.json", key=other)]
    assert signing_gate.reload() and signed_by() == other.id
    with signing_gate.connect() as connection:
        assert connection.exchange("GET", "/ping").status == 200


def test_who_was_vouched_for_by_an_authority_that_went_is_let_go(start_gate, route, authority, tmp_path):
    farm, later = Authority(tmp_path / "farm", "Render farm"), Authority(tmp_path / "later", "Later farm")
    gate = start_gate(route, client_ca=farm.ca)
    node = farm.issue("node7.render.example", purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    context = wire.client_context()
    context.load_cert_chain(node.certificate, node.key)
    with gate.connect(context=context) as known, gate.connect() as unknown:
        assert get(known) == get(unknown) == (200, b"one")
        session = known.sock.session
        gate.client_ca = later.ca
        assert gate.reload()
        known.sock.settimeout(5)
        assert known.stream.rest() == b"" and known.stream.ended == "orderly"
        assert get(unknown) == (200, b"one")
    with pytest.raises((OSError, wire.Incomplete)), gate.connect(context=context, session=session) as connection:
        get(connection)


def test_a_storm_of_reloads_under_load_fails_no_request_and_leaves_nothing_behind(
    start_gate, route, upstream, spare_upstream
):
    other = spare_upstream()
    other.script = answer(ok(b"two"))
    ways = [[route], [Route([LEGACY], [other.address], HOST, ca=route.ca), route]]
    gate = start_gate(route, workers=2)
    texts = []
    for gate.routes in ways:
        texts.append(gate._toml())
    over, failures, served = threading.Event(), [], [0]

    def ask(keep):
        try:
            while not over.is_set():
                with gate.connect(RECORDER) as connection:
                    for _ in range(20 if keep else 1):
                        answered = get(connection)
                        served[0] += 1
                        assert answered == (200, b"one"), answered
        except Exception:  # noqa: BLE001 - told below
            failures.append(traceback.format_exc())

    def storm(times):
        for at in range(times):
            beside = gate.config.with_suffix(".new")
            beside.write_text(texts[at % 2])
            os.replace(beside, gate.config)
            gate.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)

    def threads():
        return len(os.listdir(f"/proc/{gate.process.pid}/task"))

    askers = [threading.Thread(target=ask, args=(keep,)) for keep in (True, True, False)]
    for each in askers:
        each.start()
    def outcomes():
        return gate.output().count("is in force")

    def calm():
        """Waits until no reload is under way or to come."""
        told, since = outcomes(), time.monotonic()
        while time.monotonic() - since < 1:
            time.sleep(0.05)
            if outcomes() != told:
                told, since = outcomes(), time.monotonic()

    storm(200)
    calm()
    settled = gate.descriptors(), threads(), gate.memory_kib()
    storm(400)
    over.set()
    for each in askers:
        each.join(30)
    assert not failures and served[0] > 200, "\n".join(failures[:3])
    calm()
    assert gate.reload(texts[0])
    # Those that came while one was under way were one.
    assert "refused" not in gate.output() and outcomes() > 20
    ports.poll("the end of what was opened", lambda: gate.descriptors() <= settled[0] + 2, 10)
    assert threads() <= settled[1]
    assert gate.memory_kib() < settled[2] + 8 * 1024, (settled, gate.memory_kib())
