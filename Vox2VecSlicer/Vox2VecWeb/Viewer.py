"""The viewer: a session over a scene, its windows, and the page that shows both."""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

from aiohttp import web

from Vox2VecSlicerLib.Layout import SOURCE_VIEWS, TARGET_VIEWS
from Vox2VecSlicerLib.Nodes import removeFromScene
from Vox2VecSlicerLib.Session import Session
from Vox2VecWeb import Scans
from Vox2VecWeb.Application import Application
from Vox2VecWeb.Downloads import Downloads
from Vox2VecWeb.Explore import Explore
from Vox2VecWeb.Files import Transfers
from Vox2VecWeb.Opening import Opening
from Vox2VecWeb.Page import Page
from Vox2VecWeb.Readout import Readout
from Vox2VecWeb.Segment import Segment
from Vox2VecWeb.Tabs import Tabs
from Vox2VecWeb.Viewports import Click, Viewports
from Vox2VecWeb.Waiting import Waiting

logger = logging.getLogger("Vox2Vec")
TICK_SECONDS = 0.02
TAB_SECONDS = 3.0
"""So long the first tab may take to load before scans are read, which would slow it down."""
LAYOUTS = ("four", "rows")


class Viewer:
    """Everything of one server. Made inside the event loop.

    :param options: :class:`Vox2VecWeb.Server.Options`.
    """

    def __init__(self, server: Any, options: Any) -> None:
        self.webServer: Any = None
        self.page = Page(server)
        self.application = Application()
        self.scene = self.application.scene
        self.session = Session(self.scene)
        self.session.hover.withShift = False
        self.viewports = Viewports(self.application, server, self._onClick, self._onDragWindow)
        self.transfers = Transfers(self._onUploaded)
        self.opening = Opening(self.scene, self._onOpened, self._onFailed, self._onReading)
        self._isSeen = asyncio.Event()
        self.tabs = Tabs(self.page, self._onSeen)
        self.waiting = Waiting(self.page, self.session)
        self.readout = Readout(self.page, self.session, self.viewports)
        self.explore = Explore(self.page, self.session, self.viewports)
        self.segment = Segment(self.page, self.session, self.viewports, self.application)
        self._tasks: set[asyncio.Task] = set()
        self.downloads = Downloads(self.page, self.session, self.scene, self.transfers, self._spawn, self._onReading)
        self._chooseModel(options)
        self._start()
        self.page.build()
        self._spawn(self._loop())
        self._spawn(self._openFirst(options.scan, options.followUp))

    def routes(self) -> list[web.RouteDef]:
        """What the server answers to besides the page's own files."""
        return [*self.page.routes(), *self.tabs.routes(), *self.transfers.routes()]

    def close(self) -> None:
        """End the worker and remove temporary files."""
        for task in self._tasks:
            task.cancel()
        self.session.shutdown()
        self.transfers.close()

    # Set-up

    def _chooseModel(self, options: Any) -> None:
        state = self.session.state
        state.model, state.device, state.engine = options.model, options.device, options.engine
        names = self.session.models()
        if options.model not in names:
            names.append(options.model)
        self.page.show(models=names, model=state.model, device="")

    def _start(self) -> None:
        page, session = self.page, self.session
        page.show(
            scan=None,
            followUp=None,
            embedded=False,
            followUpEmbedded=False,
            busy=False,
            warning="",
            layout="four",
            crosshair=True,
            windows=[{"name": n, "width": w, "level": v} for n, (w, v) in Scans.WINDOWS.items()],
            window_="Soft tissue",
            windowText="W 400 L 40",
            uploading=None,
            vtkErrors=0,
            slices=self.viewports.status(),
            tab="explore",
            help=False,
        )
        self.viewports.showCrosshair(True)
        session.failed.connect(self._onFailed)
        session.warned.connect(lambda text: page.show(warning=text))
        session.embedded.connect(self._onEmbedded)
        session.deviceDescribed.connect(lambda text, _gpu: page.show(device=text))
        page.command("openPath", self._openPath)
        page.command("closeFollowUp", self._closeFollowUp)
        page.command("embed", self._embed)
        page.command("cancel", session.cancel)
        page.command("pending", self._pending)
        page.command("setLayout", self._setLayout)
        page.command("enlarge", self._enlarge)
        page.command("setWindow", self._setWindow)
        page.command("fit", self.viewports.fit)
        page.command("scroll", self.viewports.scroll)
        page.command("setOffset", self.viewports.setOffset)
        page.command("dismiss", lambda: page.show(message=None))
        page.command("dismissWarning", lambda: page.show(warning=""))
        page.follow("model", self._onModel)
        page.follow("crosshair", lambda shown: self._showCrosshair(shown, page.state.layout))

    def _onFailed(self, text: str) -> None:
        self.page.say(self.transfers.asTheUserKnows(text))

    # What goes on by itself

    async def _loop(self) -> None:
        await self.page.server.ready
        while True:
            with self.page.state:
                try:
                    self.page.show(busy=self.session.poll())
                    self.waiting.tick()
                    self.readout.tick()
                    self.segment.tick()
                    self._tick()
                except Exception as error:
                    logger.exception("The viewer's loop failed")
                    self.page.say(f"Something unexpected went wrong ({error}); details are in the log.")
            await asyncio.sleep(TICK_SECONDS)

    def _tick(self) -> None:
        self.viewports.tick()
        self.page.show(slices=self.viewports.status(), vtkErrors=len(self.application.errors))
        if self.page.state.owner is not None and self.webServer and not self.tabs.connections(self.webServer):
            self.tabs.leave(self.page.state.owner)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pending(self, settings: dict[str, Any]) -> list[str]:
        """What the page has asked for and what is not done yet, for scripts that drive it.

        :param settings: values as the page shows them; they are named as long as they have not arrived here.
        """
        underWay = [name for name, value in settings.items() if self.page.state[name] != value]
        with self.page.state:
            busy = self.session.poll()
            listed = self.segment.tick()
        return [*underWay, *(["work"] if busy else []), *(["page"] if listed else [])]

    # Opening

    def _onSeen(self) -> None:
        """The first tab has loaded."""
        self._isSeen.set()
        self.session.requestDeviceDescription()

    async def _openFirst(self, scan: Path | None, followUp: Path | None) -> None:
        await self.page.server.ready
        if scan is not None:
            self._onReading(f"Reading {Scans.nameOf(scan)}")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._isSeen.wait(), TAB_SECONDS)
        for path, target in ((scan, False), (followUp, True)):
            if path is not None:
                await self._flushed(self.opening.open(path, target))

    async def _flushed(self, work: Any) -> None:
        try:
            await work
        finally:
            self.page.state.flush()

    def _onReading(self, what: str) -> None:
        with self.page.state:
            self.waiting.reading = what
            self.waiting.tick()

    def _openPath(self, path: str, target: bool) -> None:
        text = path.strip().strip('"')
        if text:
            self._spawn(self._flushed(self.opening.open(Path(text).expanduser(), bool(target))))

    def _onUploaded(self, purpose: str, folder: Path) -> None:
        if purpose == "head":
            with self.page.state:
                self.segment.openHead(folder)
        elif purpose in ("scan", "followUp"):
            self._spawn(self._flushed(self.opening.openUploaded(folder, purpose == "followUp")))

    def _onOpened(self, node: Any, target: bool) -> None:
        state = self.session.state
        former = state.target if target else state.volume
        if not target:
            self.explore.forget()
            self.segment.forget()
        self.page.show(message=None, warning="")
        if target:
            state.target = node
            self.page.show(followUp=Scans.describe(node), followUpEmbedded=False)
        else:
            state.volume = node
            self.page.show(scan=Scans.describe(node), embedded=False)
        self.viewports.setBackground(node, target)
        if former is not None:
            removeFromScene(self.scene, former)
        self._setWindow(self.page.state.window_)
        self._setLayout("rows" if state.target is not None else "four")
        self._embed()

    def _closeFollowUp(self) -> None:
        state = self.session.state
        node, state.target = state.target, None
        if node is not None:
            self.viewports.setBackground(None, target=True)
            removeFromScene(self.scene, node)
        self.page.show(followUp=None, followUpEmbedded=False)
        self._setLayout("four")

    # Embedding

    def _embed(self) -> None:
        for node in (self.session.state.volume, self.session.state.target):
            if node is None or self.session.isEmbedded(node):
                continue
            refusal, _ = self.session.checkVolume(node)
            if refusal:
                self.page.say(refusal)
            else:
                self.session.embed(node)

    def _onEmbedded(self, _node: Any) -> None:
        session = self.session
        self.page.show(
            embedded=session.isEmbedded(session.state.volume), followUpEmbedded=session.isEmbedded(session.state.target)
        )

    def _onModel(self, name: str) -> None:
        reason = self.session.checkModel(name)
        if reason is not None:
            self.page.show(model=self.session.state.model)
            self.page.say(reason)
            return
        self.session.cancel()
        self.session.state.model = name
        self.session.embeddings.clear()
        self.page.show(embedded=False, followUpEmbedded=False)
        self._embed()

    # Looking

    def _setLayout(self, layout: str) -> None:
        if layout in ("rows", *TARGET_VIEWS) and self.session.state.target is None:
            raise ValueError("Open a follow-up scan for two rows.")
        if layout not in (*LAYOUTS, *SOURCE_VIEWS, *TARGET_VIEWS, "ThreeD"):
            raise ValueError(f"There is no layout {layout}.")
        self.viewports.setLayout(layout)
        self._showCrosshair(self.page.state.crosshair, layout)
        self.page.show(slices=self.viewports.status(), layout=layout)

    def _enlarge(self, view: str, layout: str) -> None:
        self.explore.takeBack(view)
        self._setLayout(layout)

    def _showCrosshair(self, shown: bool, layout: str) -> None:
        """Lines through the last click; not with a follow-up, where the same coordinates are another place."""
        self.viewports.showCrosshair(bool(shown) and layout != "rows")

    def _setWindow(self, name: str) -> None:
        width, level = Scans.WINDOWS.get(name, Scans.WINDOWS["Soft tissue"])
        for node in (self.session.state.volume, self.session.state.target):
            if node is not None:
                Scans.setWindow(node, width, level)
        self.page.show(window_=name if name in Scans.WINDOWS else "Soft tissue", windowText=f"W {width} L {level}")

    def _onDragWindow(self, view: str, width: float, level: float) -> None:
        state = self.session.state
        node = state.target if view in TARGET_VIEWS else state.volume
        if node is None or self.page.state.tool != "explore":
            return
        w, v = Scans.window(node)
        w, v = max(w + width, 1.0), v + level
        Scans.setWindow(node, w, v)
        self.page.show(window_="", windowText=f"W {w:.0f} L {v:.0f}")

    def _onClick(self, click: Click) -> None:
        self.explore.click(click)
