//! Opens N connections, makes one request on each, and holds them until standard input ends.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::arguments::Arguments;
use crate::client::{Lane, Tally, Target};
use crate::connection::Scratch;
use crate::poll::Poll;

/// Connections that are being opened at once.
const AT_ONCE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(120);

/// Those of the client's target, and `--connections N`. Prints `ready` when all are idle.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let target = Target::from(arguments)?;
    let connections: usize = arguments.need("connections")?;
    arguments.finish()?;
    let poll = Poll::new()?;
    let mut scratch = Scratch::new();
    let mut tally = Tally::default();
    let mut lanes: Vec<Lane> = Vec::new();
    let mut ready = Vec::new();
    let mut done = 0;
    let end = Instant::now() + PATIENCE;
    while done < connections {
        if Instant::now() > end {
            return Err(format!("only {done} connections could be opened in time").into());
        }
        while lanes.len() < connections && lanes.len() < done + AT_ONCE {
            let mut lane = Lane::connect(&target, &poll, lanes.len())?;
            lane.due(Instant::now());
            lane.start(&target, &poll, &mut scratch, &mut tally)?;
            lanes.push(lane);
        }
        poll.wait(&mut ready, Duration::from_millis(20))?;
        for &number in &ready {
            if lanes[number].advance(&target, &poll, &mut scratch, &mut tally)?.is_some() {
                done += 1;
            }
        }
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let lost = lanes.iter_mut().filter_map(|lane| lane.lost(&mut scratch).then_some(())).count();
    println!("{{\"connections\":{connections},\"lost\":{lost}}}");
    Ok(())
}
