//! What S3 would say to a form.

use std::fmt;

/// Why a form is refused. Nothing in it is secret: of a policy, only names of fields are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormRefusal {
    /// It is not signed at all.
    Anonymous,
    /// It is signed in a way the gate does not verify.
    Unsupported(&'static str),
    /// A field it must have is not there, or behind the file.
    Missing(&'static str),
    /// A field, and what is wrong with its value.
    Malformed(&'static str, &'static str),
    /// Signed for another region or service than the bucket's.
    WrongScope,
    /// Nobody has the key it is signed with.
    InvalidAccessKeyId,
    /// Signed with another secret, or not what was signed.
    SignatureDoesNotMatch,
    /// Signed in the future.
    NotYet,
    /// The policy, or the key it is signed with, is no longer good.
    ExpiredPolicy,
    /// The policy cannot be understood, and what about it.
    InvalidPolicyDocument(&'static str),
    /// A condition is not met: its operation and the field it is about.
    Condition(&'static str, String),
    /// No condition is about this field.
    ExtraField(String),
    /// The file is longer than the policy allows.
    EntityTooLarge {
        /// Bytes of the file.
        proposed: u64,
        /// Bytes it may have.
        max: u64,
    },
    /// The file is shorter than the policy allows.
    EntityTooSmall {
        /// Bytes of the file.
        proposed: u64,
        /// Bytes it must have.
        min: u64,
    },
    /// The fields, signed anew, are longer than S3 takes.
    TooLong,
    /// The body is too short for the end of the form.
    CutShort,
}

impl FormRefusal {
    /// The status and the code that S3 answers with.
    #[must_use]
    pub fn code(&self) -> (u16, &'static str) {
        match self {
            Self::Anonymous | Self::NotYet | Self::ExpiredPolicy | Self::Condition(..) | Self::ExtraField(_) => {
                (403, "AccessDenied")
            }
            Self::Unsupported(_) => (501, "NotImplemented"),
            Self::Missing(_) | Self::Malformed(..) | Self::WrongScope => (400, "InvalidArgument"),
            Self::InvalidAccessKeyId => (403, "InvalidAccessKeyId"),
            Self::SignatureDoesNotMatch => (403, "SignatureDoesNotMatch"),
            Self::InvalidPolicyDocument(_) => (400, "InvalidPolicyDocument"),
            Self::EntityTooLarge { .. } => (400, "EntityTooLarge"),
            Self::EntityTooSmall { .. } => (400, "EntityTooSmall"),
            Self::TooLong => (400, "MaxPostPreDataLengthExceededError"),
            Self::CutShort => (400, "MalformedPOSTRequest"),
        }
    }
}

impl fmt::Display for FormRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Access Denied"),
            Self::Unsupported(what) => write!(f, "The gate does not take {what}."),
            Self::Missing(name) => write!(f, "The form must have a field '{name}', in front of the file."),
            Self::Malformed(name, what) => write!(f, "The field '{name}' is not as it should be: {what}."),
            Self::WrongScope => f.write_str("The x-amz-credential is not for the region of the bucket and s3."),
            Self::InvalidAccessKeyId => {
                f.write_str("The AWS Access Key Id you provided does not exist in our records.")
            }
            Self::SignatureDoesNotMatch => f.write_str(
                "The request signature we calculated does not match the signature you provided. Check your key and \
                signing method.",
            ),
            Self::NotYet => f.write_str("Request is not valid yet"),
            Self::ExpiredPolicy => f.write_str("Invalid according to Policy: Policy expired."),
            Self::InvalidPolicyDocument(what) => write!(f, "Invalid Policy: {what}."),
            Self::Condition(operation, field) => {
                write!(f, "Invalid according to Policy: Policy Condition failed: [\"{operation}\", \"{field}\"]")
            }
            Self::ExtraField(name) => write!(f, "Invalid according to Policy: Extra input fields: {name}"),
            Self::EntityTooLarge { proposed, max } => {
                write!(f, "Your proposed upload exceeds the maximum allowed size: {proposed} of {max} bytes.")
            }
            Self::EntityTooSmall { proposed, min } => {
                write!(f, "Your proposed upload is smaller than the minimum allowed size: {proposed} of {min} bytes.")
            }
            Self::TooLong => f.write_str("The fields in front of the file are too long once they are signed anew."),
            Self::CutShort => f.write_str("The form ends before its last boundary."),
        }
    }
}

impl std::error::Error for FormRefusal {}
