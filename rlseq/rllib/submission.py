"""Trainings as jobs of a Ray cluster: submitted, followed, stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from rlseq.config.errors import UserError
from rlseq.rllib.joining import ANSWER_SECONDS, Place, use_tokens, wants_token
from rlseq.training.trust import VARIABLE

STOP_SECONDS = 600  # an update or a validation ends and is saved before Ray kills a job that was stopped
POLL_SECONDS = 1.0
# Of the working directory: results and what is big or secret there. Ray leaves out what .gitignore names, too.
LEFT_OUT = ["runs/", ".git/", ".venv/", ".env", ".ssh/", ".ray/", "**/__pycache__/"]


class Jobs:
    """The jobs of a cluster.

    Args:
        place: Its dashboard's URL, http://HOST:8265, and what gave it.

    Raises:
        UserError: Nothing answers there, the token is missing or wrong, or ray[default] is not installed here.
    """

    def __init__(self, place: Place) -> None:
        address = place.address.rstrip("/")
        if not address.startswith(("http://", "https://")):
            raise place.wrong("give the URL of the cluster's dashboard, such as http://10.0.0.1:8265")
        use_tokens(wants_token(place, lambda header: _dashboard_refuses(place, address, header)))
        try:
            self._client = JobSubmissionClient(address)
        except (RuntimeError, ImportError) as error:
            remedy = "; install it: pip install 'rlseq[cluster]'" if "ray[default]" in str(error) else ""
            raise place.wrong(f"{' '.join(str(error).split())}{remedy}") from error
        for handler in logging.getLogger("ray").handlers:
            handler.setLevel(logging.ERROR)  # it tells of each upload and of each closed connection
        self._place = place

    def submit(self, arguments: list[str], run: str, *, retries: int, cpus: float, gpus: float, trusted: str) -> str:
        """Submit a training; the working directory goes along.

        Args:
            arguments: A configuration and keys to change.
            run: Its run directory, as the cluster's machines see it, or its URI.
            retries: See ``rlseq.training.attempts``.
            cpus: Reserved for the driver.
            gpus: Reserved for the driver.
            trusted: What its environment has as ``rlseq.training.trust.VARIABLE``.

        Returns:
            The job's ID.

        Raises:
            UserError: The cluster refuses it.
        """
        command = ["python", "-m", "rlseq.training.attempts", str(retries), run, *arguments]
        try:
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(command),
                    runtime_env={
                        "working_dir": os.getcwd(),
                        "excludes": LEFT_OUT,
                        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), VARIABLE: trusted},
                    },
                    metadata={"run": run},
                    entrypoint_num_cpus=cpus or None,
                    entrypoint_num_gpus=gpus or None,
                )
            )
        except (RuntimeError, ValueError) as error:
            raise self._place.wrong(f"the job was not taken: {' '.join(str(error).split())}") from error

    def all(self) -> list[JobDetails]:
        """Every job that was submitted, the newest last."""
        found = [job for job in self._client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0)

    def find(self, job: str) -> JobDetails:
        """A job.

        Raises:
            UserError: There is none with this ID.
        """
        try:
            return self._client.get_job_info(job)
        except RuntimeError as error:
            known = ", ".join(each.submission_id for each in self.all()) or "none"
            raise UserError(f"there is no job {job} at {self._place.address}; there are: {known}") from error

    def logs(self, job: str) -> str:
        """What a job has printed so far; raises as ``find``."""
        self.find(job)
        return str(self._client.get_job_logs(job))

    def follow(self, job: str, show: Callable[[str], None]) -> int:
        """Pass on what a job prints until it ends; its exit code. Raises as ``find``."""
        self.find(job)

        async def pass_on() -> None:
            async for text in self._client.tail_job_logs(job):
                show(text)

        asyncio.run(pass_on())
        return self.wait(job)

    def stop(self, job: str) -> int:
        """Have a job save and end, and wait for it; its exit code. Raises as ``find``."""
        self.find(job)
        self._client.stop_job(job)
        return self.wait(job)

    def wait(self, job: str) -> int:
        """A job's exit code, once it has ended: 130 if it was stopped."""
        while not (details := self.find(job)).status.is_terminal():
            time.sleep(POLL_SECONDS)
        if details.status == JobStatus.STOPPED:
            return 130
        code = details.driver_exit_code
        return code if code is not None else int(details.status != JobStatus.SUCCEEDED)


def _dashboard_refuses(place: Place, address: str, header: dict[str, str]) -> bool:
    """Ask the dashboard for its version.

    Raises:
        UserError: No dashboard of Ray answers.
    """
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{address}/api/version", headers=header), timeout=ANSWER_SECONDS
        ) as answer:
            json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return True
        raise place.wrong(f"what answers there is no dashboard of Ray (HTTP {error.code})") from error
    except (OSError, HTTPException, ValueError, KeyError) as error:
        raise place.wrong(
            f"no dashboard of a Ray cluster answers there ({error}); is it the URL that `ray start --head` printed, "
            "and is ray[default] installed on the head?"
        ) from error
    return False
