"""A request about images: bytes -> read -> decode -> queue -> infer -> postprocess -> answer.

Each stage is a module of its own; this one puts them in order and times them.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import cast

import msgspec

from models.image import picture
from models.image.preprocess import Placed
from models.package.prediction import Classification, Ranking
from service.api import explain
from service.api.deadline import Deadline
from service.api.explain import Explain
from service.api.question import Question
from service.api.schemas import Answer, Failure
from service.errors import ClientError, DeadlineExceeded, RequestTimeout
from service.http.body import BodyBudget, Lease, WhileConnected, images_in, less_than, read_body
from service.http.problems import describe
from service.http.request import Reply, Request
from service.inference.admission import BULK_SHARE, FEATURES_SHARE
from service.inference.decode_queue import DecodeQueue, Plan
from service.inference.job import Job
from service.rollout.loaded import LoadedModel
from service.rollout.served_model import ServedModel
from service.rollout.traffic import check_finite
from service.telemetry import metrics
from service.telemetry.log import of_requests

INTERACTIVE_IMAGES = 4  # a request with more is bulk, and waits behind those with fewer
TURN_SECONDS = 0.001  # that headers are read for before other requests have their turn
REDUCED = ("/v1/features", "/v1/similar", explain.PATH)  # routes that may fill a part of the queue


@dataclass(frozen=True)
class RequestLimits:
    """Of one request: milliseconds, bytes of its body, images in it."""

    deadline_ms: int
    max_body_bytes: int
    max_images: int


class Pipeline:
    """model: computes. decoding: which image is decoded next. bodies: the bytes that all requests together may hold."""

    def __init__(self, model: ServedModel, decoding: DecodeQueue, bodies: BodyBudget, limits: RequestLimits) -> None:
        self.model = model
        self.decoding = decoding
        self.bodies = bodies
        self.limits = limits
        self.planning = asyncio.Lock()  # one request of several images at a time, as headers can be long to read

    def check_load(self, route: str, seconds: float) -> None:
        """Raises Overloaded where one more image would be too many; ``seconds``: within which the answer is wanted."""
        self.model.admission.check(1, share_of(route), seconds)
        self.decoding.check(seconds)

    async def answer(self, request: Request, question: Question) -> Reply:
        """Images in, results out, within the deadline; of several images, a bad one fails alone."""
        limit = Deadline(request, self.limits.deadline_ms)
        seconds = limit.ms / 1000
        deadline = time.perf_counter() + seconds
        images: list[bytes] | None = None
        drawn: bytes | None = None
        less = less_than(request.headers.get("content-type", ""))
        admission = self.model.admission
        try:
            async with asyncio.timeout(seconds):
                self.check_load(request.path, seconds)  # before the body is read: what is refused costs little
                with self.bodies.share() as share:
                    images = await self.read(request, share, less)
                    question.check(len(images))
                    request.charge(len(images))
                    plans = await self.plan(images)
                    request.pixels = sum(plan.header.pixels for plan in plans if isinstance(plan, Plan))
                    whole = [self.decoding.plan(images[0], picture.SPEC)] if question.draws else []
                    bulk = is_bulk(images)
                    weight = BULK_SHARE if bulk else share_of(request.path)
                    left = deadline - time.perf_counter()
                    with (
                        admission.admit(len(images), weight, left),
                        self.decoding.admit([*plans, *whole], left, request.client and request.client.name, bulk),
                        WhileConnected(request.receive),
                    ):
                        metrics.QUEUE_DEPTH.set(admission.own)
                        held, jobs = await self.compute_by_turn(request, images, plans, question, deadline)
                        await question.settle(request, held, jobs)
                        if isinstance(question, Explain) and question.draws:
                            drawn = await self.draw(request, question, images[0], whole[0], jobs[0])
        except (TimeoutError, DeadlineExceeded) as err:
            if images is None:
                raise RequestTimeout(limit.describe_body(less)) from err
            raise DeadlineExceeded(limit.describe_delay(len(images), request.stages), limit.chosen) from err
        finally:
            metrics.QUEUE_DEPTH.set(admission.own)
        with request.stage("postprocess"):
            results = [
                Failure(describe(job)) if isinstance(job, ClientError) else question.result(job, held.manifest) for job in jobs
            ]
            metrics.images_answered(request.path).inc(len(results))
            request.model, request.failed = held.manifest.id, sum(isinstance(result, Failure) for result in results)
            self.note(request, held, images, jobs, results)
            self.model.recorder.take(request, images, jobs, results, held.manifest)
            answer = Answer(held.manifest.name, held.manifest.version, results)
            headers = {"x-model": held.manifest.id}
            if drawn is not None:
                return Reply(drawn, media_type="image/png", headers=headers)
            return Reply(msgspec.json.encode(answer), headers=headers)

    async def draw(self, request: Request, question: Explain, image: bytes, plan: Plan, job: Job | ClientError) -> bytes:
        """The whole image, decoded once more to be shown, with the map of its job over it."""
        assert isinstance(job, Job)  # an error of a single image was raised
        with request.stage("postprocess"), self.model.admission.aside(soon=False):
            whole = await self.decoding.make(picture.picture, image, plan, picture.SPEC)
            return await self.decoding.aside(partial(question.draw, whole, job))

    def note(
        self, request: Request, held: LoadedModel, images: list[bytes], jobs: list[Job | ClientError], results: Sequence[object]
    ) -> None:
        """Count what a version answered, and have another that is a candidate compute the first good image too."""
        answers = [result for result in results if isinstance(result, Classification | Ranking)]
        if answers:
            self.model.traffic.note(held, answers, request.stages["queue"] + request.stages["infer"])
            image, job = next((image, job) for image, job in zip(images, jobs, strict=True) if isinstance(job, Job))
            self.model.traffic.compare(request.key(), held, image, job)

    async def read(self, request: Request, share: Lease, less: str) -> list[bytes]:
        with request.stage("read"):
            kind = request.headers.get("content-type", "")
            body = await read_body(request.receive, request.headers, self.limits.max_body_bytes, share, less)
            request.size = len(body)
            images = images_in(body, kind, self.limits.max_images)
            request.images = len(images)
            return images

    async def plan(self, images: list[bytes]) -> list[Plan | ClientError]:
        """What it takes to decode each image, or why it cannot be. An error of a single image is raised."""
        spec = self.model.manifest.input
        if len(images) == 1:
            return [self.decoding.plan(images[0], spec)]
        plans: list[Plan | ClientError] = []
        async with self.planning:
            began = time.perf_counter()
            for image in images:
                try:
                    plans.append(self.decoding.plan(image, spec))
                except ClientError as err:
                    plans.append(err)
                if time.perf_counter() - began > TURN_SECONDS:
                    await asyncio.sleep(0)
                    began = time.perf_counter()
        return plans

    async def compute_by_turn(
        self, request: Request, images: list[bytes], plans: list[Plan | ClientError], question: Question, deadline: float
    ) -> tuple[LoadedModel, list[Job | ClientError]]:
        """By the version whose turn it is; where a candidate fails, by the live one, so that nobody else notices."""
        traffic, loaded = self.model.traffic, self.model.loaded
        held = traffic.choose(request.key(), question.output)
        try:
            with held.used():
                return held, await self.compute(request, held, images, plans, question, deadline)
        except Exception as err:
            if not traffic.is_fault(held, err) or held is loaded.serving:
                raise
            what = (request.name(), held.manifest.id, err)
            of_requests().warning("request %s is answered by the live version: %s failed: %s", *what)
        serving = loaded.serving
        with serving.used():
            return serving, await self.compute(request, serving, images, plans, question, deadline)

    async def compute(
        self,
        request: Request,
        held: LoadedModel,
        images: list[bytes],
        plans: list[Plan | ClientError],
        question: Question,
        deadline: float,
    ) -> list[Job | ClientError]:
        """A finished job for each image, or why it could not be used. An error of a single image is raised."""
        if len(images) == 1:
            return [await self.compute_one(request, held, images[0], plans[0], question, deadline)]
        bulk = is_bulk(images)
        pairs = zip(images, plans, strict=True)
        tasks = (self.compute_one(request, held, image, plan, question, deadline, bulk) for image, plan in pairs)
        jobs = await asyncio.gather(*tasks, return_exceptions=True)
        for job in jobs:
            if isinstance(job, ClientError):
                metrics.REJECTIONS.labels(job.code).inc()
            elif isinstance(job, BaseException):
                raise job
        return cast(list[Job | ClientError], jobs)

    async def compute_one(
        self,
        request: Request,
        held: LoadedModel,
        image: bytes,
        plan: Plan | ClientError,
        question: Question,
        deadline: float,
        bulk: bool = False,
    ) -> Job:
        if isinstance(plan, ClientError):
            raise plan
        with request.stage("decode"), nullcontext() if plan.small else self.model.admission.aside(plan.quick):
            found = await self.decoding.make(question.work, image, plan, held.manifest.input, bulk)
        pixels, placed = (found.pixels, found) if isinstance(found, Placed) else (found, None)
        outputs = question.outputs(self.model.recorder, held.manifest)
        job = await held.engine.submit(pixels, outputs, deadline, bulk, question.target(held))
        job.placed = placed
        if held is not self.model.loaded.serving:
            check_finite([job.row[question.output]])
        request.took("queue", job.queued, job.queued + job.queue_seconds)
        request.record("infer", job.infer_seconds)
        if request.trace is not None:
            request.trace.infer(held.engine.address, job.began, job.began + job.infer_seconds, job.together)
        return job


def is_bulk(images: Sequence[bytes]) -> bool:
    return len(images) > INTERACTIVE_IMAGES


def share_of(route: str) -> float:
    """Of the queue, what requests to a route may fill."""
    return FEATURES_SHARE if route in REDUCED else 1.0
