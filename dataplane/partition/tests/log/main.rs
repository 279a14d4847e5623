//! The log as its owner sees it, over memory that crashes and rots, and over real files.

mod append;
mod crash;
mod damage;
mod faults;
mod harness;
mod images;
mod mapped;
mod noise;
mod retain;
