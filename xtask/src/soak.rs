//! `cargo xtask soak`: the long forms of `tests/tests/soak.rs`, whose figures go into docs/reliability.md.

use std::fs;

use anyhow::{Context as _, bail};

use crate::{build, clock::Clock, image, places::Places, setup, shell};

/// A long form: its test, its figures' file and markers, and its size.
struct Form {
    test: &'static str,
    name: &'static str,
    sizes: &'static [(&'static str, &'static str)],
}

/// Tables of flows as large as an agent makes them by default.
const FLOWS: (&str, &str) = ("WEFT_SOAK_FLOWS", "262144");
const HALF_OPEN: (&str, &str) = ("WEFT_SOAK_HALF_OPEN", "65536");

const FORMS: [Form; 3] = [
    Form {
        test: "a_flood_breaks_no_established_connection",
        name: "flood",
        sizes: &[("WEFT_SOAK_FLOOD_SECONDS", "30"), FLOWS, HALF_OPEN],
    },
    Form {
        test: "without_an_agent_nothing_is_dropped",
        name: "away",
        sizes: &[("WEFT_SOAK_AWAY_SECONDS", "600"), FLOWS, HALF_OPEN],
    },
    Form {
        test: "random_faults_leave_nothing_behind",
        name: "faults",
        sizes: &[("WEFT_SOAK_FAULTS", "1000"), ("WEFT_SOAK_API_SECONDS", "60")],
    },
];

/// Runs the forms, or the one of this name. A size in the environment is taken before the one here, and then the document
/// stays as it is.
pub(crate) fn run(places: &Places, mut clock: Clock, only: Option<&str>) -> anyhow::Result<()> {
    if !setup::is_root() {
        bail!("the forms make namespaces and load BPF programs: run it as root (sudo)");
    }
    if let Some(only) = only.filter(|only| FORMS.iter().all(|form| form.name != *only)) {
        bail!("there is no form {only:?}: there are {}", FORMS.map(|form| form.name).join(", "));
    }
    setup::run(places, &mut clock)?;
    build::run(places, &mut clock)?;
    // The faults strike a cluster, whose pods run from images.
    image::run(places, &mut clock)?;
    let document = places.root.join("docs/reliability.md");
    for form in FORMS.iter().filter(|form| only.is_none_or(|only| only == form.name)) {
        clock.step(form.test, |progress| {
            progress.hand_over();
            one(places, form)
        })?;
        if form.sizes.iter().all(|(name, _)| std::env::var_os(name).is_none()) {
            let figures = places.target.join("soak").join(format!("{}.md", form.name));
            let rows = fs::read_to_string(&figures).with_context(|| format!("reading {}", figures.display()))?;
            let text = fs::read_to_string(&document).with_context(|| format!("reading {}", document.display()))?;
            let text = replace(&text, form.name, &format!("| what | figure |\n|---|---|\n{rows}"))
                .with_context(|| format!("{} has no markers for {}", document.display(), form.name))?;
            fs::write(&document, text).with_context(|| format!("writing {}", document.display()))?;
        }
    }
    clock.report();
    Ok(())
}

fn one(places: &Places, form: &Form) -> anyhow::Result<()> {
    let mut cargo = shell::workspace(&places.root, "test", &["--test", "soak", form.test, "--", "--nocapture"]);
    cargo.env("WEFT_SOAK_FIGURES", places.target.join("soak")).env("WEFT_BPF_OBJECT", places.bpf_object());
    for (name, size) in form.sizes.iter().filter(|(name, _)| std::env::var_os(name).is_none()) {
        cargo.env(name, size);
    }
    match cargo.status().context("starting cargo test")? {
        status if status.success() => Ok(()),
        // It has said what is wrong.
        status => bail!("the form {} ended with {status}", form.name),
    }
}

/// Puts the body between `<!-- soak:NAME -->` and `<!-- /soak:NAME -->`.
fn replace(text: &str, name: &str, body: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- soak:{name} -->\n"), format!("<!-- /soak:{name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{body}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn between_markers() {
        let text = "x\n<!-- soak:a -->\nold\n<!-- /soak:a -->\ny";
        assert_eq!(replace(text, "a", "new\n").as_deref(), Some("x\n<!-- soak:a -->\nnew\n<!-- /soak:a -->\ny"));
        assert_eq!(replace(text, "b", "new\n"), None);
    }
}
