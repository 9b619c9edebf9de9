//! The one place where errors become gRPC statuses: internal ones are logged in full and masked, all carry `ErrorInfo`.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use segue_model::{Code, FieldViolation};
use tonic::{Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of every `ErrorInfo`.
pub const DOMAIN: &str = "segue";

/// What a service's error enum says about itself.
pub trait ServiceError: Error + Send + Sync + 'static {
    /// Kind of failure.
    fn code(&self) -> Code;

    /// Machine-readable reason, `UPPER_SNAKE`.
    fn reason(&self) -> &'static str;

    /// More for machines, for example which module is off.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What is wrong with which field.
    fn field_violations(&self) -> Vec<FieldViolation> {
        Vec::new()
    }

    /// How long to wait before trying again.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// gRPC's code for ours.
pub fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Aborted => tonic::Code::Aborted,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::Cancelled => tonic::Code::Cancelled,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::DataLoss => tonic::Code::DataLoss,
        Code::Internal => tonic::Code::Internal,
    }
}

/// Our code for gRPC's.
pub fn our_code(code: tonic::Code) -> Code {
    match code {
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::Internal => Code::Internal,
    }
}

/// The error and everything that caused it, on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Turns an error into a status. Internal errors and lost data are logged here, once, and masked; passing failures are
/// logged as warnings.
pub fn to_status<E: ServiceError>(error: &E) -> Status {
    let code = error.code();
    let message = match code {
        Code::Internal => {
            tracing::error!(reason = error.reason(), error = chain(error), "internal error");
            "internal error; it is in the server's log".to_owned()
        }
        Code::DataLoss => {
            tracing::error!(reason = error.reason(), error = chain(error), "stored data cannot be read");
            error.to_string()
        }
        Code::Unavailable => {
            tracing::warn!(reason = error.reason(), error = chain(error), "unavailable");
            error.to_string()
        }
        _ => error.to_string(),
    };
    let metadata: HashMap<String, String> = error.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, metadata);
    for violation in error.field_violations() {
        details.add_bad_request_violation(violation.field, violation.description);
    }
    if let Some(delay) = error.retry_after() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(grpc_code(code), message, details)
}

/// Ends a handler: the answer, or the status of its error.
pub fn reply<T, E: ServiceError>(result: Result<T, E>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Example {
        #[error("range.start is missing; set it")]
        Missing,
        #[error("the disk said no")]
        Disk(#[source] std::io::Error),
    }

    impl ServiceError for Example {
        fn code(&self) -> Code {
            match self {
                Example::Missing => Code::InvalidArgument,
                Example::Disk(_) => Code::Internal,
            }
        }

        fn reason(&self) -> &'static str {
            match self {
                Example::Missing => "INVALID_REQUEST",
                Example::Disk(_) => "DISK",
            }
        }

        fn field_violations(&self) -> Vec<FieldViolation> {
            vec![FieldViolation::new("range.start", "missing")]
        }
    }

    #[test]
    fn faults_of_callers_name_the_field_and_internal_ones_are_masked() {
        let status = to_status(&Example::Missing);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| (info.reason.as_str(), info.domain.as_str())), Some(("INVALID_REQUEST", "segue")));
        assert_eq!(details.bad_request().map(|bad| bad.field_violations[0].field.as_str()), Some("range.start"));

        let status = to_status(&Example::Disk(std::io::Error::other("/secret/path")));
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(!status.message().contains("secret") && !status.message().contains("disk"));
    }
}
