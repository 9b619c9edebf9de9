//! `segue channel`: how messages leave.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use segue_proto::campaign::v1::{
    Channel, CreateChannelRequest, DeleteChannelRequest, GetChannelRequest, ListChannelsRequest, ListChannelsResponse,
    UpdateChannelRequest, channel::Settings,
};

use super::{every_page, print, read, word};
use crate::cli::{Output, ProcessArgs, ServerArgs, say, table};

#[derive(Debug, Args)]
pub(in crate::cli) struct ChannelArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: ChannelCommand,
}

#[derive(Debug, Subcommand)]
enum ChannelCommand {
    /// Lists channels.
    List,
    /// Shows a channel, without its secrets.
    Show {
        /// Its id.
        id: String,
    },
    /// Makes a channel; a secret that its requests are signed with is shown this once.
    Create {
        /// 1–63 characters a-z, 0-9, '_' and '-', starting with a letter.
        id: String,
        /// A segue.campaign.v1.Channel as JSON, its id may be left out; `-` reads standard input.
        channel: PathBuf,
    },
    /// Changes what is given of a channel.
    Update {
        /// Its id.
        id: String,
        /// A segue.campaign.v1.Channel as JSON, whose settings take the place of the present ones (secrets that are left out stay); `-`
        /// reads standard input.
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
        /// For people.
        #[arg(long)]
        name: Option<String>,
        /// Messages per second; 0: as fast as the provider takes them.
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
        /// Whether nothing is sent, and what is due waits.
        #[arg(long, value_name = "BOOL")]
        paused: Option<bool>,
        /// Only if it is still in this state.
        #[arg(long)]
        etag: Option<String>,
    },
    /// Deletes a channel.
    Delete {
        /// Its id.
        id: String,
    },
}

pub(in crate::cli) async fn channel(process: &ProcessArgs, args: ChannelArgs) -> anyhow::Result<()> {
    let output = process.output();
    let mut client = args.server.connect(process).await?.channels();
    match args.command {
        ChannelCommand::List => {
            let request = ListChannelsRequest { page_size: 1_000, ..Default::default() };
            let answer = ListChannelsResponse { channels: every_page!(client, list_channels, request, channels), ..Default::default() };
            print(output, "ListChannelsResponse", &answer, |answer| channel_table(&answer.channels))
        }
        ChannelCommand::Show { id } => print_channel(output, &client.get_channel(GetChannelRequest { id }).await?.into_inner()),
        ChannelCommand::Create { id, channel } => {
            let channel = Some(written(id, &channel)?);
            let made = client.create_channel(CreateChannelRequest { channel }).await?.into_inner();
            print_channel(output, &made)?;
            if output == Output::Table && !made.signing_secret.is_empty() {
                say(&made.signing_secret)?;
                eprintln!("this is the only time that the secret is shown");
            }
            Ok(())
        }
        ChannelCommand::Update { id, settings, name, rate, paused, etag } => {
            let settings = settings.map(|path| written(id.clone(), &path)).transpose()?.and_then(|channel| channel.settings);
            let given = [
                ("name", name.is_some()),
                (settings.as_ref().map_or("", settings_field), settings.is_some()),
                ("rate_per_second", rate.is_some()),
                ("paused", paused.is_some()),
            ];
            let paths: Vec<String> = given.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
            anyhow::ensure!(!paths.is_empty(), "nothing is to be changed: name something, for example --paused true");
            let channel = Channel {
                id,
                name: name.unwrap_or_default(),
                settings,
                rate_per_second: rate.unwrap_or_default(),
                paused: paused.unwrap_or_default(),
                etag: etag.unwrap_or_default(),
                ..Default::default()
            };
            let request = UpdateChannelRequest { channel: Some(channel), update_mask: Some(prost_types::FieldMask { paths }) };
            print_channel(output, &client.update_channel(request).await?.into_inner())
        }
        ChannelCommand::Delete { id } => {
            client.delete_channel(DeleteChannelRequest { id, ..Default::default() }).await?;
            Ok(())
        }
    }
}

/// The channel of a file, under this id. A channel needs a name; its id is one.
fn written(id: String, path: &Path) -> anyhow::Result<Channel> {
    let mut channel: Channel = read("Channel", path)?;
    if channel.name.is_empty() {
        channel.name = id.clone();
    }
    channel.id = id;
    Ok(channel)
}

/// The field that the settings are.
fn settings_field(settings: &Settings) -> &'static str {
    match settings {
        Settings::Email(_) => "email",
        Settings::Webhook(_) => "webhook",
        Settings::Fcm(_) => "fcm",
        Settings::Apns(_) => "apns",
        Settings::Sms(_) => "sms",
        Settings::Kakao(_) => "kakao",
        Settings::InApp(_) => "in_app",
    }
}

fn print_channel(output: Output, channel: &Channel) -> anyhow::Result<()> {
    print(output, "Channel", channel, |channel| channel_table(std::slice::from_ref(channel)))
}

fn channel_table(channels: &[Channel]) -> comfy_table::Table {
    let mut shown = table(&["channel", "name", "kind", "to", "rate", "state", "reports to", "etag"]);
    for channel in channels {
        let to = match &channel.settings {
            Some(Settings::Email(email)) => email.url.clone(),
            Some(Settings::Webhook(http) | Settings::Sms(http) | Settings::Kakao(http)) => http.url.clone(),
            Some(Settings::Fcm(fcm)) => fcm.project_id.clone(),
            Some(Settings::Apns(apns)) => apns.bundle_id.clone(),
            Some(Settings::InApp(_)) | None => String::new(),
        };
        shown.add_row([
            channel.id.clone(),
            channel.name.clone(),
            word(channel.kind().as_str_name(), "CHANNEL_KIND_"),
            to,
            if channel.rate_per_second == 0 { String::new() } else { format!("{}/s", channel.rate_per_second) },
            if channel.paused { "paused" } else { "sends" }.to_owned(),
            channel.callback_url.clone(),
            channel.etag.clone(),
        ]);
    }
    shown
}
