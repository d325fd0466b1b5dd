"""The contract test: the official Konigle SDK and CLI against konigle-sim.

It tells whether the simulator is faithful where the SDK can tell: requests as the SDK sends them are understood, and
answers are such that the SDK digests them. Besides the SDK only the standard library.

    python contract.py http://127.0.0.1:PORT

expects the demo tenant (token `demo-token`) with its clock running, and changes it through the control API.
"""

import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from datetime import datetime

import httpx
import konigle
from konigle import exceptions
from konigle.models.cloud import ComputerCreate, WebAppCreate

BASE_URL = sys.argv[1]
UAT = "7301962442809343003"
PRODUCTION = "7301962442809343004"
FOREIGN = "7301962442809349003"

# The SDK logs every failed request with a traceback; here failures are the point.
logging.disable(logging.CRITICAL)


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{BASE_URL}/_sim/{path}", data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def client(token="demo-token", base_url=BASE_URL, timeout=30.0):
    return konigle.Client(api_key=token, base_url=base_url, timeout=timeout)


def archive(text="print('hello')", toml="[processes.web]\ncommand = 'python app.py'\n"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("Dockerfile", "FROM python:3.13-slim\n")
        file.writestr("bentocloud.toml", toml)
        file.writestr("app.py", text)
    return buffer


def equal(seen, expected, what):
    assert seen == expected, f"{what}: expected {expected!r}, saw {seen!r}"


def raises(kind, call, status=None):
    try:
        value = call()
    except Exception as error:
        assert type(error) is kind, f"expected {kind.__name__}, saw {type(error).__name__}: {error}"
        if status is not None:
            equal(error.status_code, status, f"status code of {kind.__name__}")
        return error
    raise AssertionError(f"expected {kind.__name__}, saw the answer {value!r}")


def fault(operation, action, **more):
    control("POST", "faults", {"operation": operation, "action": action, **more})


def advance(seconds):
    control("POST", "clock", {"advance_seconds": seconds})


def lists_and_details():
    cloud = client().cloud
    [computer] = cloud.computers.list().payload
    equal((computer.name, computer.status, computer.size), ("web-1", "ready", "S"), "the computer")
    equal(cloud.computers.get(computer.id).name, "web-1", "name in the computer's detail")
    [webapp] = cloud.webapps.list(computer_id=computer.id).payload
    equal((webapp.name, webapp.computer), ("shop", computer.id), "the web app")
    equal(cloud.webapps.list().payload[0].id, webapp.id, "web app of the list without a filter")
    equal(cloud.webapps.get(webapp.id).runtime, "python3", "runtime in the web app's detail")
    spaces = cloud.spaces.list(webapp_id=webapp.id).payload
    equal([space.space_type for space in spaces], ["uat", "production"], "types of the Spaces")
    space = cloud.spaces.get(UAT)
    assert int(space.id) > 2**53, "ids are beyond what floating point can hold"
    equal((space.webapp, space.status), (webapp.id, "running"), "the uat Space")
    equal((space.last_deployed_at, space.last_deployment_status), (None, None), "a Space that never ran anything")
    assert cloud.webapps.check_name_availability("other"), "a free name is available"
    assert not cloud.webapps.check_name_availability("shop"), "a taken name is not available"


def deploy_promote_and_jobs():
    cloud = client().cloud
    control("POST", "clock", {"frozen": True})
    content = archive()
    deployment = cloud.spaces.deploy(UAT, content, display_name="Größe #1 [k3f2a9c1d]")
    equal(deployment.space_id, UAT, "Space of the deployment")
    equal(deployment.display_name, "Größe #1 [k3f2a9c1d]", "display name of the deployment")
    job = cloud.jobs.get(deployment.job_id)
    equal((job.status, job.log, job.is_terminal), ("pending", [], False), "a job at its start")
    advance(3)
    job = cloud.jobs.get(deployment.job_id)
    equal(job.status, "running", "a job that runs")
    early = len(job.log)
    assert 0 < early < 10, f"the log grows, it has {early} lines"
    advance(4)
    job = cloud.jobs.get(deployment.job_id)
    assert job.is_terminal and job.succeeded and job.completed_at is not None, f"the job has ended: {job!r}"
    assert len(job.log) > early and set(job.log[0]) == {"level", "message"}, f"the whole log: {job.log!r}"
    space = cloud.spaces.get(UAT)
    equal(space.last_deployment_status, "success", "the outcome on the Space")
    equal(space.last_deployed_at, job.completed_at, "the time on the Space")
    [entry] = control("GET", "ledger")
    equal(entry["sha256"], hashlib.sha256(content.getvalue()).hexdigest(), "sha256 in the ledger")
    equal((entry["size"], entry["tenant"]), (len(content.getvalue()), "demo"), "the entry in the ledger")

    promotion = cloud.spaces.promote(UAT)
    equal(promotion.space_id, PRODUCTION, "Space of the promotion")
    assert promotion.display_name, "a promotion has a display name that the server made"
    advance(7)
    assert cloud.jobs.get(promotion.job_id).succeeded, "the promotion succeeds"
    equal(control("GET", f"spaces/{PRODUCTION}")["running"]["sha256"], entry["sha256"], "what production runs")

    control("PATCH", f"spaces/{UAT}", {"next_jobs": [{"outcome": "failed"}]})
    failed = cloud.jobs.get(cloud.spaces.deploy(UAT, archive("broken")).job_id)
    advance(7)
    failed = cloud.jobs.get(failed.id)
    equal((failed.status, failed.succeeded), ("failed", False), "a job that failed")
    equal(cloud.spaces.get(UAT).last_deployment_status, "failed", "the failure on the Space")
    control("POST", "clock", {"frozen": False})


def creation():
    cloud = client().cloud
    computer, job_id = cloud.computers.create(ComputerCreate(display_name="My Server", size="M", region="nyc3"))
    equal((computer.name, computer.status, computer.public_ip), ("my-server", "provisioning", None), "a new computer")
    equal(cloud.jobs.get(job_id).task_name, "provision_computer", "its job")
    wish = WebAppCreate(computer_id=computer.id, name="blog", runtime="nodejs", web_server="nginx")
    webapp, job_id = cloud.webapps.create(wish)
    spaces = cloud.spaces.list(webapp_id=webapp.id).payload
    equal({space.space_type for space in spaces}, {"uat", "production"}, "the Spaces of a new web app")
    advance(7)
    assert cloud.jobs.get(job_id).succeeded, "the web app is provisioned"
    equal(cloud.computers.get(computer.id).status, "ready", "status of the computer when its job has ended")
    equal(cloud.spaces.get(spaces[0].id).status, "running", "status of a Space when the job has ended")
    raises(exceptions.ConflictError, lambda: cloud.webapps.create(wish), 409)


def pagination():
    cloud = client().cloud
    webapps = [{"name": f"page-{number}"} for number in range(25)]
    control("POST", "tenants", {"name": "demo", "computers": [{"name": "pages", "webapps": webapps}]})
    everything = len(cloud.spaces.list(page_size=200).payload)
    for key, num_pages in [("payload", "yes"), ("results", "no")]:
        control("PATCH", "readings", {"list_key": key, "num_pages": num_pages})
        first = cloud.spaces.list(page=1, page_size=20)
        equal((first.count, len(first.payload)), (everything, 20), f"the first page with {key}")
        assert first.next and not first.previous, "links of the first page"
        last = cloud.spaces.list(page=-(-everything // 20), page_size=20)
        assert last.previous and not last.next, "links of the last page"
        ids = [space.id for space in cloud.spaces.iter_all(page_size=7)]
        equal((len(ids), len(set(ids))), (everything, everything), "ids over all pages")
    raises(exceptions.NotFoundError, lambda: cloud.spaces.list(page=99), 404)


def errors():
    cloud = client().cloud
    read = lambda: cloud.spaces.get(UAT)
    raises(exceptions.AuthenticationError, lambda: client("wrong").cloud.spaces.get(UAT), 401)
    raises(exceptions.NotFoundError, lambda: cloud.spaces.get(FOREIGN), 404)
    raises(exceptions.NotFoundError, lambda: cloud.jobs.get("no-such-job"), 404)
    control("PATCH", "readings", {"foreign_object": 403})
    raises(exceptions.AuthorizationError, lambda: cloud.spaces.get(FOREIGN), 403)
    equal([space.id for space in client("other-token").cloud.spaces.list().payload][0], FOREIGN, "Space of its own tenant")

    for shape in ["detail", "message", "list", "fields"]:
        control("PATCH", "readings", {"error_shape": shape})
        error = raises(exceptions.ValidationError, lambda: cloud.spaces.deploy(UAT, archive(toml="[app]\n")), 400)
        assert "processes" in str(error), f"the reason in {shape}: {error}"
    raises(exceptions.ValidationError, lambda: cloud.spaces.deploy(UAT, io.BytesIO(b"no ZIP")), 400)
    control("PATCH", "readings", {"busy_policy": "refuse_409", "zip_limit_bytes": 100_000, "error_shape": "detail"})
    control("PATCH", f"spaces/{UAT}", {"next_jobs": [{"outcome": "never"}]})
    stuck = cloud.spaces.deploy(UAT, archive())
    raises(exceptions.ConflictError, lambda: cloud.spaces.deploy(UAT, archive()), 409)
    control("PATCH", "readings", {"busy_policy": "refuse_423"})
    raises(exceptions.APIError, lambda: cloud.spaces.deploy(UAT, archive()), 423)
    control("PATCH", f"jobs/{stuck.job_id}", {"finish": "failed"})
    raises(exceptions.APIError, lambda: cloud.spaces.deploy(UAT, archive("x" * 200_000)), 413)
    control("PATCH", "readings", {"busy_policy": "parallel", "rate_limit_per_minute": 1, "retry_after_seconds": 7})
    read()
    equal(raises(exceptions.RateLimitError, read, 429).retry_after, 7, "retry_after")
    control("PATCH", "readings", {"rate_limit_per_minute": 0, "zip_limit_bytes": 10**10})

    fault("get_space", {"status": 503})
    raises(exceptions.ServerError, read, 503)
    fault("get_space", {"status": 418})
    raises(exceptions.APIError, read, 418)
    fault("get_space", {"delay_ms": 1000})
    raises(exceptions.KonigleTimeoutError, lambda: client(timeout=0.2).cloud.spaces.get(UAT))
    fault("get_space", "reset")
    raises(exceptions.NetworkError, read)
    raises(exceptions.NetworkError, lambda: client(base_url="http://127.0.0.1:1").cloud.spaces.get(UAT))
    for action in ["drop", "truncate"]:
        fault("get_space", action)
        raises(httpx.RemoteProtocolError, read)
    for action in ["html", "garbage"]:
        fault("get_space", action)
        error = None
        try:
            read()
        except ValueError as caught:
            error = caught
        assert error is not None, f"the SDK takes {action} for a Space"


def timestamps():
    cloud = client().cloud
    control("PATCH", f"spaces/{UAT}", {"last_deployed_at": "2026-11-24T08:29:00.123456Z"})
    for form, hour in [("microseconds", 8), ("milliseconds", 8), ("seconds", 8), ("offset", 10), ("zoneless", 8)]:
        control("PATCH", "readings", {"timestamps": form})
        seen = cloud.spaces.get(UAT).last_deployed_at
        assert isinstance(seen, datetime) and seen.hour == hour, f"{form} is understood as {seen!r}"
    control("PATCH", "readings", {"webapp_in_detail": "no"})
    equal(cloud.spaces.get(UAT).webapp, None, "webapp where the detail does not carry it")


def command_line():
    """`konigle cloud link`, `deploy` and `promote`, as people run them."""
    control("PATCH", "job-defaults", {"seconds": 0})
    with tempfile.TemporaryDirectory() as home:
        os.mkdir(f"{home}/.konigle")
        with open(f"{home}/.konigle/update_check.json", "w") as file:
            # Fresh, so that the CLI does not ask the package index.
            json.dump({"checked_at": datetime.now().isoformat(), "latest_version": "1.0.3"}, file)
        os.mkdir(f"{home}/app")
        for name, text in [("Dockerfile", "FROM scratch\n"), ("bentocloud.toml", "[processes.web]\n"), ("app.py", "")]:
            with open(f"{home}/app/{name}", "w") as file:
                file.write(text)
        environment = {**os.environ, "HOME": home, "KONIGLE_API_KEY": "demo-token", "KONIGLE_BASE_URL": BASE_URL}
        for words, says in [
            (["link", "--computer", "web-1", "--webapp", "shop"], "shop"),
            (["deploy", "--name", "from the CLI"], "Deployed successfully."),
            (["promote"], "Production updated."),
        ]:
            command = [os.path.join(os.path.dirname(sys.executable), "konigle"), "cloud", *words]
            run = subprocess.run(
                command, cwd=f"{home}/app", env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert run.returncode == 0 and says in run.stdout, f"konigle cloud {words}: {run.stdout}{run.stderr}"
    deploy, promote = control("GET", "ledger")[-2:]
    equal((deploy["kind"], deploy["display_name"]), ("deploy", "from the CLI"), "the CLI's deploy")
    equal((promote["kind"], promote["sha256"]), ("promote", deploy["sha256"]), "the CLI's promotion")


def main():
    equal(konigle.__version__, "1.0.3", "version of the SDK")
    seed = {"id": "7301962442809349003"}
    other = {"name": "other-app", "uat": seed}
    for test in [
        lists_and_details, deploy_promote_and_jobs, creation, pagination, errors, timestamps, command_line
    ]:
        control("POST", "reset")
        computers = [{"name": "other-1", "webapps": [other]}]
        control("POST", "tenants", {"name": "other", "tokens": ["other-token"], "computers": computers})
        test()
        print(f"ok {test.__name__}")


if __name__ == "__main__":
    main()
