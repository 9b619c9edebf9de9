//! `segue tenant`, `segue key`, `segue module`: what operators set up.

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use segue_model::Module;
use segue_proto::tenancy::v1 as proto;
use segue_runtime::tenants::{module_from_proto, module_to_proto};
use serde_json::json;

use super::{Output, ProcessArgs, ServerArgs, print_json, say, table};

#[derive(Debug, Args)]
pub(super) struct TenantArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: TenantCommand,
}

#[derive(Debug, Subcommand)]
enum TenantCommand {
    /// Makes a tenant with ingest, identity and analytics on.
    Create {
        /// 1–63 characters a-z, 0-9 and '-', starting with a letter.
        id: String,
        /// IANA zone of its reports.
        #[arg(long, default_value = "UTC")]
        time_zone: String,
        /// ISO 4217 code.
        #[arg(long, default_value = "USD")]
        currency: String,
        /// For how many days events are kept; 0 keeps them forever.
        #[arg(long, default_value_t = 0)]
        event_retention_days: u32,
    },
    /// Changes what is given of a tenant.
    Update {
        /// Its id.
        id: String,
        /// IANA zone of its reports.
        #[arg(long)]
        time_zone: Option<String>,
        /// ISO 4217 code.
        #[arg(long)]
        currency: Option<String>,
        /// For how many days events are kept; 0 keeps them forever. Older ones are out of reports at once, and soon removed.
        #[arg(long)]
        event_retention_days: Option<u32>,
    },
    /// Lists all tenants.
    List,
}

pub(super) async fn tenant(process: &ProcessArgs, args: TenantArgs) -> anyhow::Result<()> {
    let mut client = args.server.connect(process).await?.tenancy();
    match args.command {
        TenantCommand::Update { id, time_zone, currency, event_retention_days } => {
            let named = [
                ("time_zone", time_zone.is_some()),
                ("currency", currency.is_some()),
                ("event_retention_days", event_retention_days.is_some()),
            ];
            let paths = named.into_iter().filter(|(_, is_given)| *is_given).map(|(field, _)| field.to_owned()).collect();
            let tenant = proto::Tenant {
                id,
                time_zone: time_zone.unwrap_or_default(),
                currency: currency.unwrap_or_default(),
                event_retention_days: event_retention_days.unwrap_or_default(),
                ..Default::default()
            };
            let request = proto::UpdateTenantRequest { tenant: Some(tenant), update_mask: Some(prost_types::FieldMask { paths }) };
            let changed = client.update_tenant(request).await?.into_inner();
            show_tenants(process.output(), vec![changed])
        }
        TenantCommand::Create { id, time_zone, currency, event_retention_days } => {
            let tenant = proto::Tenant { id, time_zone, currency, event_retention_days, ..Default::default() };
            let made = client.create_tenant(proto::CreateTenantRequest { tenant: Some(tenant) }).await?.into_inner();
            show_tenants(process.output(), vec![made])
        }
        TenantCommand::List => {
            let mut tenants = Vec::new();
            let mut page_token = String::new();
            loop {
                let page = client.list_tenants(proto::ListTenantsRequest { page_size: 0, page_token }).await?.into_inner();
                tenants.extend(page.tenants);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return show_tenants(process.output(), tenants);
                }
            }
        }
    }
}

fn show_tenants(output: Output, tenants: Vec<proto::Tenant>) -> anyhow::Result<()> {
    let modules = |tenant: &proto::Tenant| tenant.modules().filter_map(module_from_proto).map(Module::name).collect::<Vec<_>>();
    match output {
        Output::Json => print_json(
            &tenants
                .iter()
                .map(|t| {
                    json!({
                        "id": t.id, "time_zone": t.time_zone, "currency": t.currency, "modules": modules(t),
                        "event_retention_days": t.event_retention_days,
                    })
                })
                .collect(),
        ),
        Output::Table => {
            let mut shown = table(&["tenant", "time zone", "currency", "modules", "days kept"]);
            for tenant in &tenants {
                let days = match tenant.event_retention_days {
                    0 => "all".to_owned(),
                    days => days.to_string(),
                };
                shown.add_row([&tenant.id, &tenant.time_zone, &tenant.currency, &modules(tenant).join(", "), &days]);
            }
            say(shown)
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Public, can only send events.
    Write,
    /// Secret, with a role.
    Secret,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Send events.
    Writer,
    /// Read reports and persons.
    Analyst,
    /// Change definitions, import files.
    Editor,
    /// Manage keys.
    Admin,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Makes a key for --tenant; the secret is shown this once.
    Create {
        /// Kind of key.
        #[arg(long, value_enum, default_value = "secret")]
        kind: Kind,
        /// What a secret key may do.
        #[arg(long, value_enum, default_value = "editor")]
        role: RoleName,
        /// Source of events that name none.
        #[arg(long, default_value = "")]
        source: String,
        /// For people.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Lists the keys of --tenant; without it the operator keys.
    List,
    /// Revokes a key (`keys/…`).
    Revoke {
        /// Its name.
        name: String,
    },
}

pub(super) async fn key(process: &ProcessArgs, args: KeyArgs) -> anyhow::Result<()> {
    let mut client = args.server.connect(process).await?.tenancy();
    let tenant = || args.server.tenant.clone().context("name the tenant with --tenant");
    match args.command {
        KeyCommand::Create { kind, role, source, name } => {
            let (kind, role) = match kind {
                Kind::Write => (proto::KeyKind::Write, proto::Role::Writer),
                Kind::Secret => (
                    proto::KeyKind::Secret,
                    match role {
                        RoleName::Writer => proto::Role::Writer,
                        RoleName::Analyst => proto::Role::Analyst,
                        RoleName::Editor => proto::Role::Editor,
                        RoleName::Admin => proto::Role::Admin,
                    },
                ),
            };
            let key =
                proto::Key { tenant: tenant()?, kind: kind as i32, role: role as i32, source, display_name: name, ..Default::default() };
            let made = client.create_key(proto::CreateKeyRequest { key: Some(key) }).await?.into_inner();
            match process.output() {
                Output::Json => print_json(&json!({"key": made.key.unwrap_or_default().name, "secret": made.secret})),
                Output::Table => {
                    say(&made.secret)?;
                    eprintln!("this is the only time that the secret is shown; its name is {}", made.key.unwrap_or_default().name);
                    Ok(())
                }
            }
        }
        KeyCommand::List => {
            let tenant = args.server.tenant.clone().unwrap_or_default();
            let (mut keys, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = proto::ListKeysRequest { tenant: tenant.clone(), page_size: 1_000, page_token };
                let page = client.list_keys(request).await?.into_inner();
                keys.extend(page.keys);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return show_keys(process.output(), &keys);
                }
            }
        }
        KeyCommand::Revoke { name } => {
            let key = client.revoke_key(proto::RevokeKeyRequest { name }).await?.into_inner();
            show_keys(process.output(), &[key])
        }
    }
}

fn show_keys(output: Output, keys: &[proto::Key]) -> anyhow::Result<()> {
    let rows = keys.iter().map(|key| {
        let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
        (
            key,
            key.kind().as_str_name().trim_start_matches("KEY_KIND_").to_lowercase(),
            match key.tenant.as_str() {
                "" => "operator".to_owned(),
                _ => key.role().as_str_name().trim_start_matches("ROLE_").to_lowercase(),
            },
            state,
        )
    });
    match output {
        Output::Json => print_json(
            &rows
                .map(|(key, kind, role, state)| json!({"key": key.name, "kind": kind, "role": role, "source": key.source, "state": state}))
                .collect(),
        ),
        Output::Table => {
            let mut shown = table(&["key", "kind", "role", "name", "source", "state"]);
            for (key, kind, role, state) in rows {
                shown.add_row([&key.name, &kind, &role, &key.display_name, &key.source, state]);
            }
            say(shown)
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ModuleArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: ModuleCommand,
}

#[derive(Debug, Subcommand)]
enum ModuleCommand {
    /// Switches a module of --tenant on.
    Enable {
        /// ingest, identity, analytics, audience or campaign.
        module: String,
        /// Also switch on what it needs.
        #[arg(long)]
        with_dependencies: bool,
    },
    /// Switches a module of --tenant off; data is kept.
    Disable {
        /// ingest, identity, analytics, audience or campaign.
        module: String,
        /// Also switch off what depends on it.
        #[arg(long)]
        cascade: bool,
    },
}

pub(super) async fn module(process: &ProcessArgs, args: ModuleArgs) -> anyhow::Result<()> {
    let mut client = args.server.connect(process).await?.tenancy();
    let tenant = args.server.tenant.clone().context("name the tenant with --tenant")?;
    let changed = match args.command {
        ModuleCommand::Enable { module, with_dependencies } => {
            let module = module_to_proto(module.parse()?) as i32;
            client.enable_module(proto::EnableModuleRequest { tenant, module, with_dependencies }).await?
        }
        ModuleCommand::Disable { module, cascade } => {
            let module = module_to_proto(module.parse()?) as i32;
            client.disable_module(proto::DisableModuleRequest { tenant, module, cascade }).await?
        }
    };
    show_tenants(process.output(), vec![changed.into_inner()])
}
