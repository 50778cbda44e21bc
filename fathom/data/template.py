"""Chat templates are programs from strangers: they are rendered in Jinja's sandbox, in a process with hard limits.

The sandbox (`ImmutableSandboxedEnvironment`, set up as `transformers` does) stops a template from reaching Python. It
does not stop one that loops, recurses or doubles a string for ever, so any template but our own is rendered by a child
process whose processor seconds, memory, output and files are limited by the kernel.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from fathom.errors import FathomError

MAX_TEMPLATE_BYTES = 1_000_000  # the largest published templates are about 20 kB
MAX_OUTPUT_CHARS = 16_000_000
CPU_SECONDS = 0.5  # a long conversation takes milliseconds
WALL_SECONDS = 20.0  # for a machine so busy that half a processor second takes this long
MEMORY_BYTES = 1 << 30
_STARTED = b"ready\n"
_ROOT = str(Path(__file__).parents[2])

# Thinking is shown where it is the answer to the last question; earlier thoughts are left out, as in R1 and Qwen3.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- set ns = namespace(last_question=-1) %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.last_question = loop.index0 %}{%- "
    "endif %}{%- endfor %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'system' %}{{- '<|system|>' + message.content + '<|end|>' }}"
    "{%- elif message.role == 'user' %}{{- '<|user|>' + message.content + '<|end|>' }}"
    "{%- elif message.role == 'assistant' %}{{- '<|assistant|>' }}"
    "{%- if message.reasoning_content is defined and message.reasoning_content is string and loop.index0 > "
    "ns.last_question %}"
    "{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}"
    "{{- message.content + '<|end|>' }}"
    "{%- else %}{{- raise_exception('role ' + message.role + ' is none of system, user, assistant') }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)


class TemplateRefused(FathomError):
    """A chat template that cannot be used, or that refuses these messages; `overrun`: it ran into its limits."""

    def __init__(self, message: str, *, overrun: bool = False) -> None:
        super().__init__(message)
        self.overrun = overrun


def environment() -> Any:
    """The Jinja environment of `transformers.apply_chat_template`: sandboxed and immutable."""
    from datetime import datetime

    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}...{% endgeneration %}` marks answers for training; it renders as its body."""

        tags = {"generation"}  # noqa: RUF012 - Jinja's own interface

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return env


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    return environment().from_string(template)


def render_template(template: str, variables: dict[str, Any]) -> str:
    """Text of `template` with `variables` (JSON values only). Raises `TemplateRefused` with the reason."""
    size = len(template.encode("utf-8", "replace"))
    if size > MAX_TEMPLATE_BYTES:
        raise TemplateRefused(f"the chat template has {size} bytes; one of more than {MAX_TEMPLATE_BYTES} is refused")
    if template == CHAT_TEMPLATE:
        return _render_here(template, variables)
    return _worker(os.getpid()).render(template, variables)


def _render_here(template: str, variables: dict[str, Any]) -> str:
    import jinja2

    try:
        return _compiled(template).render(**variables)
    except (jinja2.exceptions.TemplateError, TypeError, AttributeError) as error:
        raise TemplateRefused(f"the chat template refused these messages: {error}") from error


class _Worker:
    """A child process that renders templates, one request a line; killed and replaced when it overruns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, template: str, variables: dict[str, Any]) -> str:
        request = json.dumps([template, variables]).encode() + b"\n"
        with self._lock:
            process = self._running()
            try:
                process.stdin.write(request)  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
            except BrokenPipeError:
                self.stop()
                raise TemplateRefused("the process that renders chat templates ended; try again") from None
            reply = self._reply(process)
        status, text = json.loads(reply)
        if status == "ok":
            return text
        raise TemplateRefused(f"the chat template was refused: {text}")

    def _reply(self, process: subprocess.Popen[bytes]) -> bytes:
        readable, _, _ = select.select([process.stdout], [], [], WALL_SECONDS)  # type: ignore[type-var]
        reply = process.stdout.readline() if readable else b""  # type: ignore[union-attr]
        if not reply.endswith(b"\n"):
            self.stop()
            raise TemplateRefused(
                f"the chat template ran longer than {CPU_SECONDS} processor seconds or used more than "
                f"{MEMORY_BYTES >> 20} MiB, and was stopped"
            )
        return reply

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            start = f"import sys; sys.path.insert(0, {_ROOT!r}); from fathom.data.template import serve; serve()"
            command = [sys.executable, "-P", "-c", start]  # -P: nothing is imported from the working directory
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            if self._process.stdout.readline() != _STARTED:  # type: ignore[union-attr]
                self.stop()
                raise TemplateRefused("the process that renders chat templates did not start")
        return self._process

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]


@lru_cache(maxsize=1)
def _worker(process_id: int) -> _Worker:
    """One child for each process: a forked one must not share its parent's pipes."""
    worker = _Worker()
    atexit.register(worker.stop)
    return worker


# -- the child's side --------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests on stdin until it closes. Every limit is set before the first template is seen."""
    import signal

    import jinja2

    _load_everything()
    out = sys.stdout.buffer
    out.write(_STARTED)
    out.flush()
    _limit_process()
    for line in sys.stdin.buffer:
        template, variables = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # its signal ends the process; a handler could be starved
        try:
            text = _compiled(template).render(**variables)
            reply = ["ok", text] if len(text) <= MAX_OUTPUT_CHARS else ["refused", f"it wrote {len(text)} characters"]
        except RecursionError:
            reply = ["refused", "it recurses without end"]
        except MemoryError:
            reply = ["refused", f"it used more than {MEMORY_BYTES >> 20} MiB of memory"]
        except jinja2.exceptions.TemplateError as error:
            reply = ["refused", f"{type(error).__name__}: {error}"[:500]]
        except Exception as error:  # whatever a stranger's program raises is a reason to refuse it
            reply = ["refused", f"{type(error).__name__}: {error}"[:500]]
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(json.dumps(reply).encode() + b"\n")
        out.flush()


def _load_everything() -> None:
    """Import what rendering, its errors and their reports need, while files can still be opened."""
    import jinja2.debug  # noqa: F401

    environment().from_string("{% for a in [1] %}{{ a | tojson }}{% endfor %}{{ strftime_now('%d %b') }}").render()
    with contextlib.suppress(Exception):
        environment().from_string("{{ raise_exception('a') }}").render()
    with contextlib.suppress(Exception):
        environment().from_string("{% for %}")


def _limit_process() -> None:
    """No more memory than needed, no file opened or written, no child: a second wall behind the sandbox."""
    import resource

    for name, value in (("RLIMIT_AS", MEMORY_BYTES), ("RLIMIT_FSIZE", 0), ("RLIMIT_NOFILE", 3), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))
