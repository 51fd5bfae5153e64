//! Our side of the comparisons of `benches/peers/run`, one kind of work a module.
//!
//!     work KIND FOLDER [ARGUMENTS]
//!
//! FOLDER is shared with the peer: `work inputs FOLDER [DATA]` writes there what both sides begin with. The program then answers every
//! line of the standard input, a command, by a line of JSON with the seconds that the command took, facts to compare with the peer's,
//! and the peak memory so far. Set-up is never timed. It ends with its input.

mod exploration;
mod inputs;
mod limits;
mod optimum;
mod scaling;
mod segments;
mod streaming;
mod training;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    io::{BufRead, Write},
    path::Path,
    time::Instant,
};
use taylorscope::{
    allocator::{self, MiMalloc},
    study::environment::peak_memory,
};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Threads of either side.
const THREADS: usize = 2;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [kind, folder, rest @ ..] = &arguments[..] else {
        // `cargo bench` calls every benchmark without arguments.
        println!("benches/peers/run runs this program beside its peers");
        return Ok(());
    };
    // As the program itself does.
    allocator::keep_freed_memory();
    rayon::ThreadPoolBuilder::new().num_threads(THREADS).use_current_thread().build_global()?;
    faer::set_global_parallelism(faer::Par::Seq);
    let folder = Path::new(folder);
    let argument = |index: usize, name: &str| -> Result<&str> {
        rest.get(index).map(String::as_str).with_context(|| format!("work {kind} FOLDER lacks its argument {name}"))
    };
    match kind.as_str() {
        "inputs" => inputs::write(folder, rest.first().map(Path::new)),
        "autoencoder" => training::autoencoder(folder, argument(0, "OPTIMIZER:RATE")?),
        "convnet" => training::convnet(folder),
        "streaming" => streaming::serve(folder),
        "optimum" => optimum::serve(folder, argument(0, "ROUNDS")?.parse()?),
        "exploration" => exploration::serve(folder),
        "segments" => segments::serve(folder),
        "limits" => limits::serve(),
        "scaling" => scaling::serve(argument(0, "SERIES")?, argument(1, "DOUBLINGS")?.parse()?),
        _ => bail!("there is no kind of work named {kind}"),
    }
}

/// What a command took and found.
struct Answer {
    seconds: f64,
    facts: Value,
}

/// Times `work` and keeps its result.
fn timed<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

/// Says that set-up is done, then answers commands until the input ends.
fn answer(mut command: impl FnMut(&str) -> Result<Answer>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({"ready": true, "peak_bytes": peak_memory()}))?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let reply = match command(line?.trim()) {
            Ok(Answer { seconds, facts }) => json!({"seconds": seconds, "facts": facts, "peak_bytes": peak_memory()}),
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        writeln!(out, "{reply}")?;
        out.flush()?;
    }
    Ok(())
}
