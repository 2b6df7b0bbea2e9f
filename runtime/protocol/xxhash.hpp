// XXH3 over many bytes at once, by the best instructions that this machine has, where libxxhash can
// choose those at run time; the same hashes everywhere. For short keys its inlined form is faster.
#pragma once

#ifdef REGROUP_XXHASH_DISPATCHES
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif
