//! Reads `protocol/schema` and writes `protocol/src/generated`.
//!
//! [`schema`] is the model and its parser; tests use it to make bytes of every message without the generated
//! code. [`rust`] turns it into source text, [`folder`] brings the files up to date. Nothing here runs in the product.

pub mod folder;
pub mod rust;
pub mod schema;
