//! Conditions as text: `did df_app_open within 90 days and never did df_sign_up`. One form for the command line, logs and reviews, which
//! parses back to the same condition.
