#![doc = include_str!("ARCHITECTURE.md")]

// Rung 0: vocabulary.
pub mod buffer;
pub mod clock;
pub mod limits;
pub mod link;
pub mod pipe;
// Rung 1: wire formats, pure.
pub mod http;
pub mod tls;
// Rung 2: what the bytes mean to S3, pure.
pub mod s3;
// Rung 3: decisions, pure.
pub mod access;
pub mod policy;
// Rung 4: signing, pure.
pub mod sign;
// Rung 5: the line, generic over Link.
pub mod proxy;
// Rung 6: drivers.
pub mod creds;
pub mod net;
// Rung 7: one shard.
pub mod worker;
// Rung 8: what was typed, turned into options.
pub mod config;
// Rung 9: the process.
#[cfg(feature = "demo")]
pub mod demo;
pub mod server;
