//! `segue message`: what messages say.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use segue_proto::campaign::v1::preview_template_request::What;
use segue_proto::campaign::v1::{
    ArchiveTemplateRequest, CreateTemplateRequest, GetTemplateRequest, ListTemplatesRequest, ListTemplatesResponse, PreviewTemplateRequest,
    PreviewTemplateResponse, SendTestRequest, Template, UpdateTemplateRequest,
};

use super::{every_page, moment, print, read, word};
use crate::cli::report::read_text;
use crate::cli::{Output, ProcessArgs, ServerArgs, print_json, say, table};
use crate::json;

#[derive(Debug, Args)]
pub(in crate::cli) struct TemplateArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    /// Lists templates.
    List {
        /// Archived ones too.
        #[arg(long)]
        archived: bool,
    },
    /// Shows a template; its parts with --output json.
    Show {
        /// Its id.
        id: String,
        /// An earlier version.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        version: u32,
    },
    /// Makes a template.
    Create {
        /// 1–63 characters a-z, 0-9, '_' and '-', starting with a letter.
        id: String,
        /// A segue.campaign.v1.Template as JSON, its id may be left out; `-` reads standard input.
        template: PathBuf,
    },
    /// Puts another content in the place of a template's: a new version.
    Update {
        /// Its id.
        id: String,
        /// A segue.campaign.v1.Template as JSON, its id may be left out; `-` reads standard input.
        template: PathBuf,
        /// Only if it is still in this state.
        #[arg(long)]
        etag: Option<String>,
    },
    /// Archives a template.
    Archive {
        /// Its id.
        id: String,
    },
    /// What a person would get.
    Preview(PreviewArgs),
    /// Sends a preview to an address, now.
    Test {
        #[command(flatten)]
        preview: PreviewArgs,
        /// Id of the channel to send it by.
        #[arg(long, value_name = "ID")]
        channel: String,
        /// An e-mail address, phone number, push token …; of a webhook none.
        #[arg(long, default_value = "")]
        address: String,
    },
}

#[derive(Debug, Args)]
struct PreviewArgs {
    /// Id of the template.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    id: Option<String>,
    /// A segue.campaign.v1.Template as JSON that is not stored yet; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// As this person, by number [default: nobody].
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    person: u32,
    /// Further values as JSON, for example {"event": {"properties": {"cart_id": "c1"}}}; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// Instead of the person's, for example ko-KR.
    #[arg(long, default_value = "")]
    locale: String,
}

impl PreviewArgs {
    fn request(self) -> anyhow::Result<PreviewTemplateRequest> {
        let what = match (self.id, self.file) {
            (Some(id), _) => What::Id(id),
            (None, Some(file)) => What::Template(read("Template", &file)?),
            (None, None) => anyhow::bail!("say which template: its id, or --file FILE"),
        };
        let values = match self.values {
            Some(path) => Some(json::read("google.protobuf.Struct", &read_text(&path)?)?),
            None => None,
        };
        Ok(PreviewTemplateRequest { what: Some(what), person: self.person, values, locale: self.locale })
    }
}

pub(in crate::cli) async fn template(process: &ProcessArgs, args: TemplateArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.templates();
    match args.command {
        TemplateCommand::List { archived } => {
            let request = ListTemplatesRequest { with_archived: archived, page_size: 1_000, ..Default::default() };
            let templates = every_page!(client, list_templates, request, templates);
            let answer = ListTemplatesResponse { templates, ..Default::default() };
            print(output, "ListTemplatesResponse", &answer, |answer| template_table(&answer.templates))
        }
        TemplateCommand::Show { id, version } => {
            print_template(output, &client.get_template(GetTemplateRequest { id, version }).await?.into_inner())
        }
        TemplateCommand::Create { id, template } => {
            let template = Some(written(id, &template)?);
            print_template(output, &client.create_template(CreateTemplateRequest { template }).await?.into_inner())
        }
        TemplateCommand::Update { id, template, etag } => {
            let template = Template { etag: etag.unwrap_or_default(), ..written(id, &template)? };
            let request = UpdateTemplateRequest { template: Some(template), update_mask: None };
            print_template(output, &client.update_template(request).await?.into_inner())
        }
        TemplateCommand::Archive { id } => {
            let request = ArchiveTemplateRequest { id, ..Default::default() };
            print_template(output, &client.archive_template(request).await?.into_inner())
        }
        TemplateCommand::Preview(args) => print_preview(output, &client.preview_template(args.request()?).await?.into_inner()),
        TemplateCommand::Test { preview, channel, address } => {
            let request = SendTestRequest { preview: Some(preview.request()?), channel, address };
            let answer = client.send_test(request).await?.into_inner();
            match output {
                Output::Json => print_json(&json::write("segue.campaign.v1.SendTestResponse", &answer)?),
                Output::Table => say(&answer.provider_message_id),
            }
        }
    }
}

/// The template of a file, under this id. A template needs a name; its id is one.
fn written(id: String, path: &Path) -> anyhow::Result<Template> {
    let mut template: Template = read("Template", path)?;
    if template.name.is_empty() {
        template.name = id.clone();
    }
    template.id = id;
    Ok(template)
}

fn print_template(output: Output, template: &Template) -> anyhow::Result<()> {
    print(output, "Template", template, |template| template_table(std::slice::from_ref(template)))
}

fn template_table(templates: &[Template]) -> comfy_table::Table {
    let mut shown = table(&["template", "name", "for", "state", "version", "locales", "changed", "etag"]);
    for template in templates {
        let kind = match word(template.kind().as_str_name(), "CHANNEL_KIND_") {
            kind if kind.is_empty() => "other templates".to_owned(),
            kind => kind,
        };
        let locales: Vec<&str> = template.locales.iter().map(|parts| parts.locale.as_str()).collect();
        shown.add_row([
            template.id.clone(),
            template.name.clone(),
            kind,
            if template.archived { "archived" } else { "in use" }.to_owned(),
            template.version.to_string(),
            locales.join(", "),
            moment(template.updated_at.as_ref()),
            template.etag.clone(),
        ]);
    }
    shown
}

fn print_preview(output: Output, answer: &PreviewTemplateResponse) -> anyhow::Result<()> {
    print(output, "PreviewTemplateResponse", answer, |answer| {
        let mut shown = table(&["part", "text"]);
        let mut parts: Vec<_> = answer.parts.iter().collect();
        parts.sort_unstable();
        for (part, text) in parts {
            shown.add_row([part, text]);
        }
        shown
    })?;
    for fault in &answer.faults {
        eprintln!("{}, line {}: {}", fault.part, fault.line, fault.message);
    }
    anyhow::ensure!(answer.faults.is_empty(), "it would not be sent: {} faults", answer.faults.len());
    Ok(())
}
