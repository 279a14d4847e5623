//! The log as its owner sees it, over memory that crashes and rots, and over real files.

mod append;
mod calls;
mod corruption;
mod crash;
mod damage;
mod evidence;
mod faults;
mod files;
mod follow;
mod harness;
mod images;
mod mapped;
mod noise;
mod retain;
mod unvouched;
