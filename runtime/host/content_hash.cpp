#include "runtime/host/content_hash.hpp"

#include <fmt/format.h>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/xxhash.hpp"

namespace regroup {
namespace {

XXH3_state_t* typed(void* state) {
  return static_cast<XXH3_state_t*>(state);
}

}  // namespace

ContentHasher::ContentHasher() : state_(XXH3_createState()) {
  REGROUP_CHECK(state_ != nullptr, "there is memory for a hash state");
  XXH3_128bits_reset(typed(state_.get()));
}

void ContentHasher::FreeState::operator()(void* state) const {
  XXH3_freeState(typed(state));
}

void ContentHasher::update(std::span<const std::byte> bytes) {
  if (!bytes.empty()) XXH3_128bits_update(typed(state_.get()), bytes.data(), bytes.size());
}

std::string ContentHasher::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(typed(state_.get()));
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string content_hash(std::span<const std::byte> bytes) {
  ContentHasher hasher;
  hasher.update(bytes);
  return hasher.hex();
}

std::string content_hash(std::string_view text) {
  return content_hash(std::as_bytes(std::span(text)));
}

}  // namespace regroup
