//! The command line: what is typed, and which file carries it out.
//!
//! Exit codes: 0 done, 1 failed or refused, 2 wrong usage or invalid configuration. Nothing here decides
//! anything about a rollout.

mod actions;
pub mod analyzer;
pub mod assign;
pub mod check;
mod client;
mod demo;
pub mod evidence;
mod figures;
mod health;
mod learners;
mod paper;
mod people;
mod preflight;
mod printable;
mod rehearse;
pub mod replay;
mod report;
mod run;
mod secure;
mod session;
mod simulate;
mod status;
mod wait;
mod watch;
mod weights;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Wrong usage, or a configuration that is not valid.
const EXIT_USAGE: u8 = 2;

/// A layer-7 reverse proxy with canary routing, inline measurement and a rollout gate in the data path
#[derive(Debug, Parser)]
#[command(name = "serin", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The proxy, in the foreground
    Run(run::RunArgs),
    /// A whole rollout on real sockets in about a minute: stub analyzers, learners' load, the proxy, the gate
    Demo(demo::DemoArgs),
    /// Validates a configuration file and prints its plan
    Check(check::CheckArgs),
    /// Whether serin answers, for health checks of containers
    Health(health::HealthArgs),
    /// The rollout now
    Status(status::StatusArgs),
    /// The rollout live, with keys for the actions; lines where the output is no terminal
    Watch(watch::WatchArgs),
    /// Starts a rollout at its first stage
    Start(actions::ActionArgs),
    /// Stops the stage's clock; triggers stay armed
    Pause(actions::ActionArgs),
    /// Goes on after a pause or a hold
    Resume(actions::ActionArgs),
    /// Begins the present stage again
    Retry(actions::ActionArgs),
    /// Holds the rollout where it is
    Hold(actions::ActionArgs),
    /// Takes the next step now; over unmet criteria it needs --force and --reason
    Advance(actions::ActionArgs),
    /// Takes everybody back to baseline
    Rollback(actions::ActionArgs),
    /// Ends the rollout: everybody to baseline, the plan is let go
    Abort(actions::ActionArgs),
    /// Gives the approval that a stage's end asks for
    Approve(people::SayArgs),
    /// Says no where an approval is asked for: the rollout is held
    Reject(people::SayArgs),
    /// Nothing goes towards canary until it is over; triggers stay armed
    Freeze(people::FreezeArgs),
    /// Ends a freeze
    Unfreeze(people::UnfreezeArgs),
    /// Reads the weights, or sets them: original=99 ultra_fast=1
    Weights(weights::WeightsArgs),
    /// Waits until a rollout has ended in a certain way, for pipelines
    Wait(wait::WaitArgs),
    /// Injects faults into canary's requests and times the rollback; refused unless enabled
    Rehearse(rehearse::RehearseArgs),
    /// The checklist before a rollout: endpoints, hooks, channels, state, rehearsals
    Preflight(preflight::PreflightArgs),
    /// The report of the present or last run
    Report(report::ReportArgs),
    /// Which arm learners are on, offline: id<TAB>bucket<TAB>arm
    Assign(assign::AssignArgs),
    /// The plan under a virtual clock: its decisions, or what many runs say together
    Simulate(simulate::SimulateArgs),
    /// A recorded rollout through the gate; fails where a decision differs
    Replay(replay::ReplayArgs),
    /// The gate's arithmetic on numbers you give it: failures against a limit, or blocks of both arms
    Evidence(evidence::EvidenceArgs),
    /// The stub analyzer that the demo, the tests and the load tests use
    Analyzer(analyzer::AnalyzerArgs),
    /// Learners' load, for trying things out
    Learners(learners::LearnersArgs),
    /// Completions of this command line for a shell, on standard output
    Completions(paper::CompletionsArgs),
    /// The manual pages, one a command, into a folder; or the first of them on standard output
    Man(paper::ManArgs),
}

/// Reads the arguments and carries out the command.
pub fn run() -> ExitCode {
    let result = match Args::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => {
            return check::run(
                &args,
                &mut std::io::stdout().lock(),
                &mut std::io::stderr().lock(),
            );
        }
        Command::Health(args) => health::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Start(args) => actions::run("start", &args),
        Command::Pause(args) => actions::run("pause", &args),
        Command::Resume(args) => actions::run("resume", &args),
        Command::Retry(args) => actions::run("retry", &args),
        Command::Hold(args) => actions::run("hold", &args),
        Command::Advance(args) => actions::run("advance", &args),
        Command::Rollback(args) => actions::run("rollback", &args),
        Command::Abort(args) => actions::run("abort", &args),
        Command::Approve(args) => people::say("approve", &args),
        Command::Reject(args) => people::say("reject", &args),
        Command::Freeze(args) => people::freeze(&args),
        Command::Unfreeze(args) => people::unfreeze(&args),
        Command::Weights(args) => weights::run(&args),
        Command::Wait(args) => wait::run(&args),
        Command::Rehearse(args) => rehearse::run(&args),
        Command::Preflight(args) => preflight::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Assign(args) => {
            return assign::run(
                &args,
                &mut std::io::stdin().lock(),
                &mut std::io::stdout().lock(),
                &mut std::io::stderr().lock(),
            );
        }
        Command::Simulate(args) => simulate::run(&args),
        Command::Replay(args) => {
            return replay::run(
                &args,
                &mut std::io::stdout().lock(),
                &mut std::io::stderr().lock(),
            );
        }
        Command::Evidence(args) => {
            return evidence::run(
                &args,
                &mut std::io::stdin().lock(),
                &mut std::io::stdout().lock(),
                &mut std::io::stderr().lock(),
            );
        }
        Command::Analyzer(args) => analyzer::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Learners(args) => learners::run(&args),
        Command::Completions(args) => paper::completions(&args, Args::command()),
        Command::Man(args) => paper::man(&args, Args::command()),
    };
    match result {
        Ok(code) => code,
        Err(why) => {
            eprintln!("serin: {}", printable::text(&format!("{why:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that waits on the network, on a runtime of this thread alone.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Prints a result; what would command a terminal is shown and not sent. A reader who has gone away (`serin status | head -1`) is no fault.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;

    let mut out = std::io::stdout().lock();
    match out
        .write_all(printable::text(text).as_bytes())
        .and_then(|()| out.flush())
    {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => Err(why.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
