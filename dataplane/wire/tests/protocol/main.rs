//! The protocol as a stranger sees it: golden bytes, a worked conversation, and the document that states both.

mod accepted;
mod allocation;
mod conversation;
mod document;
mod forgery;
mod golden;
mod mutation;
mod parties;
mod refused;
mod routes;
mod rules;
mod seeds;
mod tables;
