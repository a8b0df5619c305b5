//! The terminal: taken, drawn on when something changed, and given back whatever happens.

use std::io::{self, Stdout};
use std::time::Duration;

use anyhow::Context;
use crossterm::cursor::Show;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, EventStream};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use futures_util::StreamExt;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::signal::unix::{SignalKind, signal};

use super::draw::{self, Look};
use super::feed::Feed;
use super::keys;
use super::model::{At, Heard, Model};
use super::view::{View, Wish};
use crate::clock;

/// The age of the figures and the hours are in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// Shows the rollout until the person, or a signal, has had enough.
pub(super) async fn run(mut feed: Feed, mut model: Model) -> anyhow::Result<()> {
    let look = Look::of(|name| std::env::var(name).ok());
    let (mut ended, mut gone) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let mut screen =
        Screen::take().context("the terminal cannot be drawn on; --plain writes lines")?;
    let mut events = EventStream::new();
    let mut second = tokio::time::interval(SECOND);
    let mut view = View::default();
    let began = clock::now();
    let now = || At {
        since: clock::now().saturating_duration_since(began),
        wall: clock::wall(),
    };
    loop {
        screen.draw(look, now(), &model, &view)?;
        tokio::select! {
            heard = feed.heard.recv() => {
                let heard = heard.context("the connection to the admin port ended")?;
                take_in(&mut model, &mut view, now(), heard);
                // What came at once is drawn at once.
                while let Ok(heard) = feed.heard.try_recv() {
                    take_in(&mut model, &mut view, now(), heard);
                }
            }
            event = events.next() => {
                let event = event.context("the terminal is gone")?.context("the terminal cannot be read")?;
                let Some(press) = keys::press(event) else {
                    continue;
                };
                match view.press(now(), press, &model) {
                    Wish::Nothing => {}
                    Wish::Quit => return Ok(()),
                    Wish::Send(order) => feed.send(order),
                }
                let size = screen.size()?;
                view.scroll = view.scroll.min(draw::deepest(look, now(), &model, &view, size));
            }
            _ = second.tick() => {}
            _ = ended.recv() => return Ok(()),
            _ = gone.recv() => return Ok(()),
        }
    }
}

fn take_in(model: &mut Model, view: &mut View, now: At, heard: Heard) {
    if let Some(done) = model.hear(now, heard) {
        view.done(now, done, model);
    }
}

/// The terminal while it is ours.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    _taken: Taken,
}

impl Screen {
    fn take() -> io::Result<Self> {
        let taken = Taken::take()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(Self {
            terminal,
            _taken: taken,
        })
    }

    fn draw(&mut self, look: Look, now: At, model: &Model, view: &View) -> io::Result<()> {
        self.terminal
            .draw(|frame| draw::draw(frame, look, now, model, view))?;
        Ok(())
    }

    fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }
}

/// Keys come one by one, and another screen is shown, until this is dropped: after an error as well.
struct Taken;

impl Taken {
    fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let taken = Self;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let shown = execute!(
            io::stdout(),
            DisableBracketedPaste,
            LeaveAlternateScreen,
            Show
        );
        let cooked = disable_raw_mode();
        // What fails here has nobody left to be told.
        drop(shown.and(cooked));
    }
}
