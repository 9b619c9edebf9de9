//! Command lines as they are typed.

use clap::{CommandFactory, Parser};

use super::Cli;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn audiences_are_said_in_the_words_of_the_manual() {
    let lines = [
        r"segment create lapsed --where X",
        r"segment update lapsed --condition -",
        r"audience create openers --where X --holdout 2.5 --time-zone Asia/Seoul --mode live",
        r"audience update openers --name Openers --etag 3",
        r"audience show openers --versions",
        r"audience preview --where X --overlap a,b --sample 3",
        r"audience preview --audience openers",
        r"audience explain openers user_id:u1 --as-of 2026-01-01T00:00:00Z",
        r"audience members openers --details --limit 5",
        r"audience watch openers buyers --from-beginning --limit 10 --output json",
        r"audience watch --cursor c1",
        r"audience export openers --format parquet --column email,trait:df_membership --file out.parquet",
        r"list import vip vip.csv --column E-Mail=email --replace",
        r"list add vip 7 user_id:u1",
        r"sync create ads --audience openers --url https://ads.example/ --kind email,phone",
        r"condition parse X",
        r"template fill lapsed_without_sign_up --with span=3",
    ];
    for line in lines {
        let words = std::iter::once("segue").chain(line.split_whitespace());
        assert!(
            Cli::try_parse_from(words).is_ok(),
            "{line}: {:?}",
            Cli::try_parse_from(std::iter::once("segue").chain(line.split_whitespace())).err()
        );
    }
    for line in [
        "audience create openers --where X --condition -",
        "audience create openers --where X --holdout 101",
        "audience preview --audience a --segment b",
        "audience watch --cursor c --from-beginning",
        "list add vip",
    ] {
        assert!(Cli::try_parse_from(std::iter::once("segue").chain(line.split_whitespace())).is_err(), "{line}");
    }
}
