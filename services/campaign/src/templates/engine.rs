//! MiniJinja within limits: what a source does is bounded by fuel, by the length of what comes out, by how deep it goes, and by the
//! stack it runs on.
//!
//! MiniJinja charges fuel for instructions and for every byte and item that they make, so that fuel bounds time and memory. What it does
//! not bound is how deep values lie within each other (`{% set a = [a] %}`, again and again): dropping or printing such a value recurses, so
//! sources that keep values run on a stack of their own that is large enough for all that the fuel can pay for.

use std::borrow::Cow;
use std::error::Error as _;
use std::io;
use std::sync::Arc;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use segue_proto::campaign::v1::TemplateFault;

use super::filters;
use super::scan::Refused;
use crate::config::TemplateConfig;

/// Depth of blocks, loops and (at 10 each) partials that are gone into.
const RECURSION_MAX: usize = 250;
/// Stack for each unit of fuel of sources that keep values.
const STACK_BYTES_PER_FUEL: usize = 3 << 10;
const STACK_BYTES_MIN: usize = 16 << 20;
/// Sources that keep values get no more fuel than this, so that their stack stays within 768 MiB of addresses (not of memory).
const DEEP_FUEL_MAX: u64 = 256 << 10;

/// How what is filled in is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    None,
    Html,
    Json,
}

impl Escape {
    fn name(self) -> &'static str {
        match self {
            Escape::None => "none",
            Escape::Html => "html",
            Escape::Json => "json",
        }
    }
}

/// Sources by name, ready to be filled in.
pub(super) struct Program {
    environment: Environment<'static>,
    output_bytes_max: usize,
    /// Some of the sources keep values.
    is_deep: bool,
}

/// Where the text of a partial comes from: the position of the locale, and the id.
pub(super) type Partials = dyn Fn(usize, &str) -> Option<String> + Send + Sync;
/// Where the text of a part comes from: the position of the locale, and its name.
pub(super) type Parts = dyn Fn(usize, &str) -> Option<String> + Send + Sync;

impl Program {
    /// `is_strict`: a missing value that is used is a fault. Whether there is one may always be asked for (`{% if %}`, `default`).
    pub(super) fn new(config: &TemplateConfig, is_strict: bool, is_deep: bool, parts: Arc<Parts>, partials: Arc<Partials>) -> Self {
        let mut environment = environment();
        environment.set_undefined_behavior(if is_strict { UndefinedBehavior::SemiStrict } else { UndefinedBehavior::Chainable });
        environment.set_fuel(Some(if is_deep { config.fuel_max.min(DEEP_FUEL_MAX) } else { config.fuel_max }));
        environment.set_auto_escape_callback(|name| match name.rsplit_once('#') {
            Some((_, "html")) => AutoEscape::Html,
            Some((_, "json")) => AutoEscape::Json,
            _ => AutoEscape::None,
        });
        environment.set_path_join_callback(|id, parent| {
            let locale = parent.split_once(':').map_or("", |(locale, _)| locale);
            let escape = parent.rsplit_once('#').map_or("", |(_, escape)| escape);
            Cow::Owned(format!("{locale}:partial:{id}#{escape}"))
        });
        environment.set_loader(move |name| {
            let Some((locale, what, id)) = parse_name(name) else { return Ok(None) };
            Ok(if what == "partial" { partials(locale, id) } else { parts(locale, id) })
        });
        Self { environment, output_bytes_max: config.output_bytes_max, is_deep }
    }

    /// Fills in one part.
    pub(super) fn fill(&self, locale: usize, part: &str, escape: Escape, values: &Value) -> Result<String, TemplateFault> {
        let name = format!("{locale}:part:{part}#{}", escape.name());
        let filled = if self.is_deep { self.fill_on_deep_stack(&name, values) } else { self.fill_here(&name, values) };
        filled.map_err(|Refused { line, message }| TemplateFault { part: part.to_owned(), line, message })
    }

    fn fill_on_deep_stack(&self, name: &str, values: &Value) -> Result<String, Refused> {
        let fuel = usize::try_from(self.environment.fuel().unwrap_or_default()).unwrap_or(usize::MAX);
        let bytes = fuel.saturating_mul(STACK_BYTES_PER_FUEL).max(STACK_BYTES_MIN);
        let failed = |message: &str| Refused { line: 0, message: message.to_owned() };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("template".to_owned())
                .stack_size(bytes)
                .spawn_scoped(scope, || self.fill_here(name, values))
                .map_err(|error| failed(&format!("cannot be filled in now: the system gives no thread ({error})")))?;
            thread.join().unwrap_or_else(|_| Err(failed("cannot be filled in: the template engine failed")))
        })
    }

    fn fill_here(&self, name: &str, values: &Value) -> Result<String, Refused> {
        let mut written = Bounded { bytes: Vec::new(), left: self.output_bytes_max, is_full: false };
        let filled = self.environment.get_template(name).and_then(|template| {
            template.render_captured_to(values.clone(), &mut written)?;
            Ok(())
        });
        match filled {
            Ok(()) => String::from_utf8(written.bytes).map_err(|_| Refused { line: 0, message: "does not give text".to_owned() }),
            Err(error) if written.is_full => {
                let most = self.output_bytes_max;
                let line = line(&error);
                Err(Refused { line, message: format!("gives more than {most} bytes (campaign.template.output_bytes_max): shorten it") })
            }
            Err(error) => Err(refused(&error)),
        }
    }
}

/// `<locale>:<part or partial>:<id>#<escape>`
fn parse_name(name: &str) -> Option<(usize, &str, &str)> {
    let (path, _) = name.rsplit_once('#')?;
    let (locale, path) = path.split_once(':')?;
    let (what, id) = path.split_once(':')?;
    Some((locale.parse().ok()?, what, id))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    filters::add_to(&mut environment);
    // One writes down everything that is known, the other makes values that contain themselves: they are never freed, and never end when
    // they are written.
    environment.remove_global("debug");
    environment.remove_global("namespace");
    environment.set_recursion_limit(RECURSION_MAX);
    // So that errors name what is undefined.
    environment.set_debug(true);
    environment
}

/// Finds what is wrong with a source, and with the names that it uses.
pub(super) struct Checker {
    environment: Environment<'static>,
}

impl Checker {
    pub(super) fn new() -> Self {
        Self { environment: environment() }
    }

    /// `source` was found by the scan not to be too deep.
    pub(super) fn check(&mut self, source: &str, filters: &[(String, u32)], tests: &[(String, u32)]) -> Result<(), Refused> {
        self.environment.clear_templates();
        self.environment.add_template_owned("part", source.to_owned()).map_err(|error| refused(&error))?;
        for (what, names) in [("filter", filters), ("test", tests)] {
            for (name, line) in names {
                let is_known = self.environment.empty_state().perform_test(what, &[Value::from(name.as_str())]);
                if !is_known.unwrap_or_default() {
                    return Err(Refused { line: *line, message: format!("there is no {what} `{name}`") });
                }
            }
        }
        Ok(())
    }
}

fn line(error: &Error) -> u32 {
    error.line().and_then(|line| u32::try_from(line).ok()).unwrap_or_default()
}

/// The line is the part's own; the message is that of the innermost error, with its place if that is in a partial.
fn refused(error: &Error) -> Refused {
    let mut innermost = error;
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<Error>() {
            innermost = inner;
        }
        source = inner.source();
    }
    let detail = innermost.detail();
    let message = match (innermost.kind(), detail) {
        (ErrorKind::OutOfFuel, _) => "does more than it may (campaign.template.fuel_max): make loops shorter".to_owned(),
        (ErrorKind::UndefinedError, Some(detail)) => format!("{detail}: use `default(…)`, or `{{% if %}}`, where it may be missing"),
        (ErrorKind::UndefinedError, None) => "uses a value that is missing".to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let partial = innermost.name().and_then(parse_name).filter(|(_, what, _)| *what == "partial");
    let message = match partial {
        Some((_, _, id)) => format!("in line {} of the partial `{id}`: {message}", line(innermost)),
        None => message,
    };
    Refused { line: line(error), message }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.left.checked_sub(bytes.len()) {
            Some(left) => {
                self.left = left;
                self.bytes.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            None => {
                self.is_full = true;
                Err(io::Error::other("full"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
