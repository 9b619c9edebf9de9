//! The templates. To add one: its text, with `{name}` where a blank is, and its blanks; a test holds that it can be filled in.

/// A ready-made condition.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    /// The text form, with blanks.
    pub(super) text: &'static str,
    pub(super) blanks: &'static [Blank],
}

/// What is filled in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blank {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) kind: BlankKind,
    pub(super) default: &'static str,
}

/// What a blank takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlankKind {
    /// A text.
    Text,
    /// Texts, separated by commas.
    Texts,
    /// An exact number.
    Decimal,
    /// A span.
    Span,
}

impl BlankKind {
    /// As the contract calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            BlankKind::Text => "text",
            BlankKind::Texts => "texts",
            BlankKind::Decimal => "decimal",
            BlankKind::Span => "span",
        }
    }
}

const fn blank(name: &'static str, kind: BlankKind, default: &'static str, description: &'static str) -> Blank {
    Blank { name, description, kind, default }
}

const OPENED_WITHIN: Blank = blank("within", BlankKind::Span, "3 months", "How far back an opening of the app counts");
const ACQUIRED_WITHIN: Blank = blank("within", BlankKind::Span, "1 month", "How far back the last touch may lie");
const CAMPAIGN: Blank = blank("campaign", BlankKind::Text, "jewellery", "The ad campaign, as `ad_campaign` has it");
const OTHER_THAN: Blank =
    blank("categories", BlankKind::Texts, "jewellery", "What the campaign is for, as the first category of items has it");

/// All.
pub(super) const TEMPLATES: &[Known] = &[
    Known {
        id: "opened_without_sign_up",
        name: "Opened the app, never signed up",
        description: "Opened the app lately and has never completed sign-up.",
        text: "did df_app_open within {within} and never did df_sign_up",
        blanks: &[OPENED_WITHIN],
    },
    Known {
        id: "acquired_by_ads_without_sign_up",
        name: "Came through an ad, never signed up",
        description: "The last touch lately was an ad partner's, and sign-up was never completed.",
        text: "last touch within {within} where ad_partner exists and never did df_sign_up",
        blanks: &[ACQUIRED_WITHIN],
    },
    Known {
        id: "acquired_by_search_without_product",
        name: "Came through a search ad, bought none of some products",
        description: "The last touch lately was of a search channel, and no product whose name contains one of the keywords was ever bought.",
        text: "last touch within {within} where channel_group is {channels} \
               and never did df_purchase where any item item_name contains {keywords}",
        blanks: &[
            ACQUIRED_WITHIN,
            blank("channels", BlankKind::Texts, "search_ad", "Channel groups of search ads, as `channel_group` has them"),
            blank("keywords", BlankKind::Texts, "stroller, cradle", "Parts of the names of products; case matters"),
        ],
    },
    Known {
        id: "opened_without_purchase",
        name: "Opened the app, did not buy",
        description: "Opened the app lately and did not buy in that time.",
        text: "did df_app_open within {within} and never did df_purchase within {within}",
        blanks: &[blank("within", BlankKind::Span, "3 months", "How far back openings and purchases count")],
    },
    Known {
        id: "spent_on_category",
        name: "Spent much on some products",
        description: "Bought products of the categories for at least the amount lately; other items of the same orders do not count.",
        text: "did df_purchase of items where category1 is {categories} \
               with sum of price × quantity at least {amount} within {within}",
        blanks: &[
            blank("categories", BlankKind::Texts, "childcare", "First categories of items"),
            blank("amount", BlankKind::Decimal, "1000000", "The least amount, in the currency of the orders"),
            blank("within", BlankKind::Span, "6 months", "How far back purchases count"),
        ],
    },
    Known {
        id: "campaign_bought_something_else",
        name: "Came through a promotion, bought something else",
        description: "The last touch was of the campaign, and there is a purchase with any item of another category, whatever else is in it.",
        text: "last touch where ad_campaign is {campaign} and did df_purchase where any item category1 is not {categories}",
        blanks: &[CAMPAIGN, OTHER_THAN],
    },
    Known {
        id: "campaign_bought_without_it",
        name: "Came through a promotion, bought without its products",
        description: "The last touch was of the campaign, and there is a purchase in which no item is of the category.",
        text: "last touch where ad_campaign is {campaign} and did df_purchase where no item category1 is {categories}",
        blanks: &[CAMPAIGN, OTHER_THAN],
    },
];
