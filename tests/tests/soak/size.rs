//! How long a form runs: short beside the other tests, as long as the environment says otherwise; and where figures go.
use std::{env, fmt::Write as _, fs, path::PathBuf};

use abi::map;

use crate::lab::Lab;

/// A number from the environment.
pub(crate) fn number(variable: &str, short: u64) -> u64 {
    let Ok(text) = env::var(variable) else { return short };
    text.parse().unwrap_or_else(|_| panic!("{variable}={text}: a whole number is wanted"))
}

/// Rows of `FLOWS` and of `HALFOPEN`: few, so that a short run fills them.
pub(crate) fn tables() -> [u32; 2] {
    ["WEFT_SOAK_FLOWS", "WEFT_SOAK_HALF_OPEN"].map(|variable| number(variable, 4096) as u32)
}

/// How full they are on the first node.
pub(crate) fn full(lab: &Lab) -> String {
    let [flows, half_open] = tables();
    format!("{} of {flows}, {} of {half_open}", lab.rows(map::FLOWS.name), lab.rows(map::HALFOPEN.name))
}

/// What a form measured, line by line.
pub(crate) struct Figures {
    form: &'static str,
    text: String,
}

impl Figures {
    pub(crate) fn new(form: &'static str) -> Figures {
        Figures { form, text: String::new() }
    }

    pub(crate) fn add(&mut self, what: &str, figure: impl std::fmt::Display) {
        writeln!(self.text, "| {what} | {figure} |").unwrap();
    }

    /// Prints them, and keeps them where `WEFT_SOAK_FIGURES` says.
    pub(crate) fn keep(&self) {
        println!("{}:\n{}", self.form, self.text);
        if let Some(directory) = env::var_os("WEFT_SOAK_FIGURES").map(PathBuf::from) {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(format!("{}.md", self.form)), &self.text).unwrap();
        }
    }
}
