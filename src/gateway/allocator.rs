//! What a program for musl gives out memory with, if it asks for feature `dlmalloc`.
//!
//! To musl's own allocator nearly each size of block is a mapping of its own, with the system calls
//! and page faults of one; a CGI request is too short for that to pay.

use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;
