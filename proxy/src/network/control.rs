//! Asking BIRD, by its control socket: a line goes there, and lines come back, the last of which is marked.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use cni::network::bird::{Shown, protocols};

use crate::telemetry::{ESTABLISHED, Session};

/// How long BIRD may take to say something.
const WITHIN: Duration = Duration::from_secs(5);
/// More than that is no answer: a line for each session, and some.
const LONGEST_ANSWER: u64 = 4 * 1024 * 1024;
/// Codes from here on are errors.
const ERRORS: u16 = 8000;
/// A line of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    code: u16,
    text: String,
}

/// A connection to a BIRD that runs.
pub(super) struct Control {
    reader: BufReader<std::io::Take<UnixStream>>,
    stream: UnixStream,
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// When none answers there.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).context("BIRD does not answer")?;
        stream.set_read_timeout(Some(WITHIN))?;
        stream.set_write_timeout(Some(WITHIN))?;
        let reader = BufReader::new(stream.try_clone()?.take(0));
        let mut control = Self { reader, stream };
        // It greets.
        control.answer()?;
        Ok(control)
    }

    /// Has it read its configuration anew. Sessions that stay as they are go on.
    ///
    /// # Errors
    /// When it refuses, with what it says.
    pub(super) fn configure(&mut self) -> anyhow::Result<()> {
        self.ask("configure").map(drop)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it refuses.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.ask("down").map(drop)
    }

    /// The BGP sessions that it has, and how they stand.
    ///
    /// # Errors
    /// When it does not tell.
    pub(super) fn sessions(&mut self) -> anyhow::Result<Vec<Session>> {
        let lines = self.ask("show protocols")?;
        let text: Vec<_> = lines.into_iter().map(|line| line.text).collect();
        let shown = protocols(&text.join("\n")).into_iter().filter(|shown| shown.kind == "BGP");
        Ok(shown.map(session).collect())
    }

    fn ask(&mut self, command: &str) -> anyhow::Result<Vec<Line>> {
        self.stream.write_all(format!("{command}\n").as_bytes()).context("cannot ask BIRD")?;
        let lines = self.answer()?;
        match lines.iter().find(|line| line.code >= ERRORS) {
            Some(line) => bail!("BIRD says to {command:?}: {}", line.text),
            None => Ok(lines),
        }
    }

    fn answer(&mut self) -> anyhow::Result<Vec<Line>> {
        self.reader.get_mut().set_limit(LONGEST_ANSWER);
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let mut text = Vec::new();
            let read = self.reader.read_until(b'\n', &mut text).map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => anyhow::anyhow!("BIRD has not answered for {WITHIN:?}"),
                _ => anyhow::Error::from(error).context("cannot hear BIRD"),
            })?;
            if read == 0 {
                bail!("BIRD ended its answer too soon");
            }
            let text = String::from_utf8_lossy(&text);
            let (line, is_last) = line(text.trim_end(), lines.last().map(|line| line.code))?;
            lines.push(line);
            if is_last {
                return Ok(lines);
            }
        }
    }
}

/// A line: four digits and a dash, or a space if it is the last; or a space alone, if its code is that of the one before.
fn line(text: &str, before: Option<u16>) -> anyhow::Result<(Line, bool)> {
    if let (Some(text), Some(code)) = (text.strip_prefix([' ', '+']), before) {
        return Ok((Line { code, text: text.to_owned() }, false));
    }
    let code = text.get(..4).and_then(|digits| digits.parse().ok());
    let Some(code) = code else { bail!("BIRD says what makes no sense: {text:?}") };
    let rest = &text[4..];
    Ok((Line { code, text: rest.get(1..).unwrap_or_default().to_owned() }, !rest.starts_with('-')))
}

fn session(shown: Shown) -> Session {
    let state = match shown.is_established() {
        true => ESTABLISHED.to_owned(),
        false => shown.info.split_whitespace().next().map_or(shown.state, str::to_owned),
    };
    Session { name: shown.name, state }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A BIRD that answers each question with the next of these texts.
    fn control(answers: &'static [&'static str]) -> Control {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bird.ctl");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut questions = BufReader::new(stream.try_clone().unwrap()).lines();
            (&stream).write_all(b"0001 BIRD 2.0.12 ready.\n").unwrap();
            for answer in answers {
                if questions.next().is_none() {
                    break;
                }
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        Control::open(&path).unwrap()
    }

    #[test]
    fn sessions_are_read_from_the_table() {
        let mut control = control(&["\
2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     12:00:00.123
 kernel4    Kernel     master4    up     12:00:00.123
 rack       BGP        ---        up     12:00:01.456  Established
 node_b     BGP        ---        start  12:00:01.456  Active        Socket: Connection refused
 node_c     BGP        ---        down   12:00:01.456
0000 
"]);
        let session = |name: &str, state: &str| Session { name: name.to_owned(), state: state.to_owned() };
        let expected =
            [session("rack", "Established"), session("node_b", "Active"), session("node_c", "down")];
        assert_eq!(control.sessions().unwrap(), expected);
    }

    #[test]
    fn what_bird_refuses_is_told() {
        let mut control = control(&[
            "0002-Reading configuration from /run/pointsman/bird.conf\n0003 Reconfigured\n",
            "0002-Reading configuration from x\n8002 x:3:1 syntax error, unexpected '}'\n",
            "what?\n",
        ]);
        control.configure().unwrap();
        let error = control.configure().unwrap_err().to_string();
        assert!(error.contains("syntax error"), "{error}");
        assert!(control.sessions().unwrap_err().to_string().contains("no sense"));
        assert!(control.sessions().is_err(), "it has gone");
    }
}
