"""Measures deployer beside the bare engine and writes target/bench.json. Run it through `make bench`.

Everything it makes carries one random label and goes at the end, whatever happens.
"""

import http.client
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

RUNS = 20
IDLE_SECONDS = 60
CHECKED_CONTAINERS = 50
IDLE_CONTAINERS = 200
LOAD_SECONDS = 8
BINARY = Path("target/dist/deployer")
LOAD = Path("target/release/examples/hook_load")
ROLLOUTS = Path("target/debug/examples/rollout_cost")
ID = secrets.token_hex(4)
SERVE = "trap 'exit 0' TERM; /bin/busybox httpd -p 8080 -h /www; /bin/busybox sleep 1000000 & wait"


class Engine(http.client.HTTPConnection):
    """Bare calls over the engine's socket, one connection a call, as any script would make them."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["DOCKER_HOST"].removeprefix("unix://"))


def call(method, path, body=None):
    engine = Engine("docker")
    engine.request(method, "/v1.41" + path, body and json.dumps(body), {"Content-Type": "application/json"})
    answer = engine.getresponse()
    text = answer.read()
    engine.close()
    if answer.status >= 400 or b'"error"' in text[-300:]:
        raise RuntimeError(f"{method} {path}: {answer.status} {text.decode(errors='replace')[:300]}")
    return json.loads(text) if text[:1] in b"{[" and path.endswith("json") or "create?name" in path else None


def docker(*words, **options):
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True, **options).stdout.strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, seconds, look):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise RuntimeError(f"waited {seconds} s for {what}")


def version_at(port):
    """The version that answers, or None. A connection each, so that no old one is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    try:
        connection.request("GET", "/version")
        return connection.getresponse().read().decode().strip() or None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Poller(threading.Thread):
    """Asks a port for its version all the while, and keeps the time of each answer."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.answers, self.is_stopped = port, [], False

    def run(self):
        while not self.is_stopped:
            version = version_at(self.port)
            if version:
                self.answers.append((time.monotonic(), version))
            time.sleep(0.002)

    def first(self, version):
        return next((at for at, answered in list(self.answers) if answered == version), None)

    def gap(self, version):
        first = self.first(version)
        return first - max(at for at, answered in self.answers if at < first)


class CountedEngine(threading.Thread):
    """A socket that passes calls on to the engine, one connection a call, and counts them and what they bring."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.calls, self.bytes = 0, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)

    def run(self):
        while True:
            asker, _ = self.listener.accept()
            self.calls += 1
            engine = Engine("docker")
            engine.connect()
            threading.Thread(target=self.pass_on, args=(asker, engine.sock, False), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(engine.sock, asker, True), daemon=True).start()

    def pass_on(self, source, sink, is_answer):
        try:
            while data := source.recv(1 << 16):
                self.bytes += len(data) * is_answer
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Bench:
    """A registry, a daemon of its own, and what they need."""

    def __init__(self, folder):
        self.folder, self.children, self.results = folder, [], {}
        self.registry = f"127.0.0.1:{free_port()}"
        self.token = secrets.token_hex(16)

    def start(self, name, *words):
        with open(self.folder / f"{name}.log", "wb") as log:
            child = subprocess.Popen(words, stdout=log, stderr=log)
        self.children.append(child)
        return child

    def start_registry(self):
        config = self.folder / "registry.yml"
        storage = json.dumps({"filesystem": {"rootdirectory": str(self.folder / "registry")}})
        config.write_text(f'version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\nstorage: {storage}\n'
                          f'http: {{addr: "{self.registry}"}}\n')
        self.start("registry", "docker-registry", "serve", str(config))
        port = int(self.registry.split(":")[1])
        wait_until("the registry", 20, lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)

    def start_daemon(self, *options):
        (self.folder / "secret").write_text(self.token)
        (self.folder / "secret").chmod(0o600)
        (self.folder / "deployer.toml").write_text(
            '[[hook]]\npath = "/hooks/ci"\nsource = "native"\nsecret_file = "secret"\n')
        state = self.folder / "state"
        self.daemon = self.start("deployer", str(BINARY), "run", "--config", str(self.folder / "deployer.toml"),
                                 "--state-dir", str(state), "--listen", "127.0.0.1:0", "--node", "bench",
                                 "--manage", f"labeled={ID}", *options)
        wait_until("deployer to be ready", 20, lambda: self.is_ready(state / "listen"))

    def restart_daemon(self, *options):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)
        self.start_daemon(*options)
        time.sleep(10)  # until what the start set off has died down

    def is_ready(self, listen):
        """The address changes with every start, and the file is there before the daemon is ready."""
        try:
            self.address = listen.read_text().strip()
            return self.get("/healthz") == 200
        except OSError:
            return False

    def get(self, path):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status

    def notify(self, image):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        connection.request("POST", "/hooks/ci", json.dumps({"image": image}),
                           {"Authorization": f"Bearer {self.token}"})
        status = connection.getresponse().status
        if status != 202:
            raise RuntimeError(f"the hook was answered with {status}")

    def push(self, repository, version):
        """Builds and pushes through the registry's other name; gives back the digest."""
        root = Path(tempfile.mkdtemp(dir=self.folder))
        for part in ("bin", "www"):
            (root / part).mkdir()
        subprocess.run(["cp", "/bin/busybox", root / "bin/busybox"], check=True)
        (root / "bin/sh").symlink_to("busybox")
        (root / "www/version").write_text(version + "\n")
        name = f"localhost:{self.registry.split(':')[1]}/{repository}:latest"
        tar = subprocess.run(["tar", "-cC", root, "."], check=True, capture_output=True).stdout
        changes = ["ENTRYPOINT " + json.dumps(["/bin/sh", "-c", SERVE]), "EXPOSE 8080", f"LABEL deployer-bench={ID}"]
        subprocess.run(["docker", "import", *(f"--change={change}" for change in changes), "-", name], input=tar,
                       check=True, capture_output=True)
        docker("push", "--quiet", name)
        digests = json.loads(docker("image", "inspect", "--format", "{{json .RepoDigests}}", name))
        return next(digest.split("@")[1] for digest in digests if digest.startswith(name.rsplit(":", 1)[0]))

    def run_web(self, name, image, port, enabled):
        labels = [f"--label=deployer.health.{window}" for window in ("stable=0", "timeout=30s")]
        docker("run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:8080", "--label",
               f"deployer-bench={ID}", "--label", f"deployer.enable={ID if enabled else 'no'}", "--label",
               "deployer.monitor=0", *labels, image)
        wait_until(name, 20, lambda: version_at(port))

    def record(self, name, value, unit, target, against, runs=1, better="lower"):
        self.results[name] = {"value": round(value, 4), "unit": unit, "target": target, "better": better,
                              "against": against, "runs": runs}

    def measure_replacement(self):
        ours, bare = f"web-{ID}", f"bare-{ID}"
        images = {name: f"{self.registry}/bench/{name}:latest" for name in (ours, bare)}
        ports = {name: free_port() for name in (ours, bare)}
        for name in (ours, bare):
            self.push(f"bench/{name}", "v0")
            docker("pull", "--quiet", images[name])
            self.run_web(name, images[name], ports[name], name == ours)
        self.start_daemon()
        times = {name: ([], []) for name in (ours, bare)}
        for number in range(1, RUNS + 1):
            for name in (ours, bare) if number % 2 else (bare, ours):
                version = f"v{number}"
                digest = self.push(f"bench/{name}", version)
                poller = Poller(ports[name])
                poller.start()
                wait_until("the poller", 10, lambda: len(poller.answers) > 5)
                begun = time.monotonic()
                if name == ours:
                    self.notify(images[name])
                    old = None
                else:
                    old = self.replace_by_hand(name, images[name], digest)
                first = wait_until(f"{version} of {name}", 60, lambda: poller.first(version))
                poller.is_stopped = True
                times[name][0].append(first - begun)
                times[name][1].append(poller.gap(version))
                if old:
                    call("DELETE", f"/containers/{old}")
                else:
                    wait_until("the replacement's end", 60, lambda: not any((self.folder / "state/replacements").iterdir()))
        for index, (name, what, against) in enumerate((
                ("push_to_serving_ratio", 0, "pull, tag, create, stop, rename twice, start by a script"),
                ("downtime_ratio", 1, "stop and start by a script"))):
            medians = {who: statistics.median(times[who][index]) for who in times}
            self.record(name, medians[ours] / medians[bare], "ratio", 1.15, against, RUNS)
            print(f"{name}: ours {medians[ours]:.3f} s, bare {medians[bare]:.3f} s", flush=True)

    def replace_by_hand(self, name, image, digest):
        """The same work, with nothing looked at, written down, or checked."""
        repository = image.rsplit(":", 1)[0]
        call("POST", f"/images/create?fromImage={repository}&tag={digest}")
        call("POST", f"/images/{repository}@{digest}/tag?repo={repository}&tag=latest")
        old = call("GET", f"/containers/{name}/json")
        config = {"Image": image, "Labels": old["Config"]["Labels"], "HostConfig": old["HostConfig"]}
        new = call("POST", f"/containers/create?name={name}.new", config)["Id"]
        call("POST", f"/containers/{old['Id']}/rename?name={name}.old")
        call("POST", f"/containers/{new}/rename?name={name}")
        call("POST", f"/containers/{old['Id']}/stop?t=10")
        call("POST", f"/containers/{new}/start")
        return old["Id"]

    def measure_hooks(self):
        image = f"{self.registry}/bench/web-{ID}:latest"
        words = [str(LOAD), self.address, "/hooks/ci", self.token, image, str(LOAD_SECONDS)]
        most = json.loads(subprocess.run([*words, "64"], check=True, capture_output=True).stdout)
        half = json.loads(subprocess.run([*words, "64", "2500"], check=True, capture_output=True).stdout)
        self.record("hooks_per_second", most["per_second"], "1/s", 15000, "one hot track, each 202 after its write",
                    better="higher")
        self.record("hooks_p99", half["p99_ms"], "ms", 50, "2,500 a second, counted from when each was due")

    def measure_idle(self):
        """Of a daemon that was started beside its containers; a burst of hooks is measured by itself."""
        self.record("memory_after_hooks", self.resident(), "MB resident", 15, "the daemon that took the hooks above")
        checked = ["--health-cmd=true", "--health-interval=5s"]
        self.run_idle(range(CHECKED_CONTAINERS), *checked)
        self.restart_daemon()
        stat = Path(f"/proc/{self.daemon.pid}/stat")
        ticks = lambda: sum(map(int, stat.read_text().rsplit(")", 1)[1].split()[11:13]))
        before = ticks()
        time.sleep(IDLE_SECONDS)
        share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / IDLE_SECONDS * 100
        against = f"{CHECKED_CONTAINERS} containers with a HEALTHCHECK every 5 s"
        self.record("idle_cpu", share, "% of a core", 0.05, f"{against}, {IDLE_SECONDS} s")
        self.record("idle_memory", self.resident(), "MB resident", 10, against)
        self.run_idle(range(CHECKED_CONTAINERS, IDLE_CONTAINERS))
        self.restart_daemon()
        self.record("idle_memory_beside_200", self.resident(), "MB resident", 14, f"{IDLE_CONTAINERS} containers")
        self.measure_event()

    def measure_event(self):
        """What the daemon asks the engine after one event of a container, beside all the others."""
        engine = CountedEngine(self.folder / "engine.sock")
        engine.start()
        self.restart_daemon("--docker", f"unix://{self.folder / 'engine.sock'}")
        last = IDLE_CONTAINERS - 1
        calls, brought = engine.calls, engine.bytes
        docker("pause", f"idle-{ID}-{last}")
        time.sleep(5)
        against = f"one container of {IDLE_CONTAINERS} paused"
        self.record("event_calls", engine.calls - calls, "calls", 2, against)
        self.record("event_kilobytes", (engine.bytes - brought) / 1024, "KB", 32, against)
        docker("unpause", f"idle-{ID}-{last}")

    def run_idle(self, numbers, *options):
        for number in numbers:
            docker("run", "--detach", "--network=none", "--label", f"deployer-bench={ID}", "--label",
                   f"deployer.enable={ID}", "--name", f"idle-{ID}-{number}", *options,
                   f"{self.registry}/bench/web-{ID}:latest")

    def resident(self):
        status = Path(f"/proc/{self.daemon.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000

    def measure_rollouts(self):
        """Over three hosts; the example makes and removes them by itself."""
        told = json.loads(subprocess.run([str(ROLLOUTS), str(BINARY)], check=True, stdout=subprocess.PIPE).stdout)
        for name, unit, target, against in (
                ("hand_over_ms", "ms", 20, "from a slot given back to the next one's taking it, between hosts"),
                ("known_ms", "ms", 50, "hook to the last of three nodes acting on it, beyond the registry's answer"),
                ("mixed_ratio", "ratio", 1.1, "the sum of the three replacements"),
                ("writes", "writes", 12, "etcd's revisions per node and rollout")):
            self.record(f"cluster_{name}", told[name], unit, target, against, told["rollouts"])

    def clean_up(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
        for kind, listing in (("rm", ["ps", "-aq"]), ("rmi", ["images", "-q"])):
            found = sorted(set(docker(*listing, "--filter", f"label=deployer-bench={ID}").split()))
            if found:
                subprocess.run(["docker", kind, "--force", *found], capture_output=True)


def report(results):
    Path("target/bench.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{'':24}{'value':>10}  {'target':>8}  {'':6}  against")
    for name, row in results.items():
        is_met = row["value"] >= row["target"] if row["better"] == "higher" else row["value"] <= row["target"]
        sign = "≥" if row["better"] == "higher" else "≤"
        print(f"{name:24}{row['value']:>10.5g}  {sign} {row['target']:<6}  {'' if is_met else 'MISSED':6}  "
              f"{row['against']} ({row['unit']})")


def main():
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            bench.start_registry()
            bench.measure_replacement()
            bench.measure_hooks()
            bench.measure_idle()
            bench.measure_rollouts()
            bench.record("binary_size", BINARY.stat().st_size / 1e6, "MB", 12, "static, stripped")
        except Exception:
            log = bench.folder / "deployer.log"
            print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
            raise
        finally:
            bench.clean_up()
        report(bench.results)


if __name__ == "__main__":
    main()
