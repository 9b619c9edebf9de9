//! Integration tests of analytics, on every backend there is.

mod bulk;
mod cluster;
mod condition;
mod dimension_values;
mod evaluation;
mod events;
mod every_layout;
mod explanation;
mod funnel;
mod index;
mod layouts;
mod leaves;
mod one_by_one;
mod path;
mod report;
mod retention;
mod rig;
mod sessions;
mod sql;
mod timeline;
