//! `segue condition` and `segue template`: conditions as text, and ready-made ones.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use segue_proto::audience::v1::ParseConditionRequest;
use segue_proto::audience::v1::{FillTemplateRequest, FormatConditionRequest, ListTemplatesRequest, ListTemplatesResponse};
use segue_proto::query::v1::Condition;

use super::print;
use crate::cli::report::read_text;
use crate::cli::{Output, ProcessArgs, ServerArgs, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(in crate::cli) struct ConditionArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: ConditionCommand,
}

#[derive(Debug, Subcommand)]
enum ConditionCommand {
    /// Reads a condition from text and prints it as JSON.
    Parse {
        /// For example 'did df_app_open within 90 days and never did df_sign_up'; `-` reads standard input.
        text: String,
    },
    /// Checks a condition and prints it as text.
    Format {
        /// A segue.query.v1.Condition as JSON; `-` reads standard input.
        condition: PathBuf,
    },
}

pub(in crate::cli) async fn condition(process: &ProcessArgs, args: ConditionArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.audience();
    match args.command {
        ConditionCommand::Parse { text } => {
            let text = if text == "-" { read_text(&PathBuf::from(text))? } else { text };
            let answer = client.parse_condition(ParseConditionRequest { text }).await?.into_inner();
            eprintln!("{}", answer.text);
            print_json(&json::write("segue.query.v1.Condition", &answer.condition.unwrap_or_default())?)
        }
        ConditionCommand::Format { condition } => {
            let condition: Condition = json::read("segue.query.v1.Condition", &read_text(&condition)?)?;
            let answer = client.format_condition(FormatConditionRequest { condition: Some(condition) }).await?.into_inner();
            match output {
                Output::Json => print_json(&json::write("segue.audience.v1.FormatConditionResponse", &answer)?),
                Output::Table => say(&answer.text),
            }
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TemplateArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    /// Lists ready-made conditions with their blanks.
    List,
    /// Fills in the blanks of one and prints the condition as text.
    Fill {
        /// Its id.
        template: String,
        /// A blank, for example --with span='3 months'; what is left out takes its default.
        #[arg(long = "with", value_name = "NAME=VALUE", value_parser = pair)]
        parameters: Vec<(String, String)>,
    },
}

pub(in crate::cli) async fn template(process: &ProcessArgs, args: TemplateArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.audience();
    match args.command {
        TemplateCommand::List => {
            let answer = client.list_templates(ListTemplatesRequest {}).await?.into_inner();
            print(output, "ListTemplatesResponse", &answer, template_table)
        }
        TemplateCommand::Fill { template, parameters } => {
            let parameters: HashMap<String, String> = parameters.into_iter().collect();
            let answer = client.fill_template(FillTemplateRequest { template, parameters }).await?.into_inner();
            match output {
                Output::Json => print_json(&json::write("segue.audience.v1.FillTemplateResponse", &answer)?),
                Output::Table => say(&answer.text),
            }
        }
    }
}

/// `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn template_table(answer: &ListTemplatesResponse) -> comfy_table::Table {
    let mut shown = table(&["template", "meaning", "blanks", "condition"]);
    for template in &answer.templates {
        let blanks: Vec<String> =
            template.parameters.iter().map(|blank| format!("{}={} ({})", blank.name, blank.default_value, blank.r#type)).collect();
        shown.add_row([&template.id, &template.description, &blanks.join("\n"), &template.text]);
    }
    shown
}
