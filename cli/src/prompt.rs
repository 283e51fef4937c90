//! Questions to the user.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use paas_api::Secret;

use crate::{error::Error, printer::Printer};

/// Longest answer that is read.
const LONGEST: u64 = 64 << 10;

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// One line from stdin, without its end.
pub(crate) fn read_line() -> Result<String, Error> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(LONGEST)
        .read_line(&mut line)
        .map_err(|error| Error::new(format!("cannot read from standard input: {error}")))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// What the option gave, else the answer to a question; `option` is named when there is nobody to ask.
pub(crate) fn given_or_asked(
    given: Option<String>,
    question: &str,
    option: &str,
    printer: Printer,
) -> Result<String, Error> {
    match given {
        Some(given) => Ok(given),
        None if can_ask() => {
            printer.ask(question)?;
            read_line()
        }
        None => Err(Error::usage(format!("{option} is missing, and there is no terminal to ask on"))
            .hint(format!("give {option}"))),
    }
}

/// The password that the option gave (`-` is a line of stdin), else the answer to a question without echo.
pub(crate) fn password(given: Option<Secret>, question: &str, option: &str) -> Result<Secret, Error> {
    match given {
        Some(given) if given.expose() == "-" => Ok(read_line()?.into()),
        Some(given) => Ok(given),
        None if can_ask() => {
            let answer = rpassword::prompt_password(question)
                .map_err(|error| Error::new(format!("cannot read a password: {error}")))?;
            Ok(answer.into())
        }
        None => Err(Error::usage(format!("{option} is missing, and there is no terminal to ask on"))
            .hint(format!("give '{option} -' and the password as a line of standard input"))),
    }
}

/// A new password, asked for twice when it is asked for.
pub(crate) fn new_password(given: Option<Secret>, question: &str, option: &str) -> Result<Secret, Error> {
    let ask_again = given.is_none();
    let wanted = password(given, question, option)?;
    if ask_again {
        let again = password(None, &question.replace(": ", " (confirm): "), option)?;
        if again != wanted {
            return Err(Error::new("Password mismatch, please try again."));
        }
    }
    Ok(wanted)
}
