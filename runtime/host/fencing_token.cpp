#include "runtime/host/fencing_token.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace regroup {
namespace {

bool write_whole(int fd, std::span<const std::byte> bytes, bool synchronised) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return !synchronised || fsync(fd) == 0;
}

// In a file of its own, whose name begins so: process ids are the same on many nodes, and a draft
// that is linked already must never be written to. Empty if it cannot be written.
std::optional<std::string> write_draft(const std::filesystem::path& begin,
                                       std::span<const std::byte> bytes, bool synchronised) {
  std::string name = begin.string() + "XXXXXX";
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) return {};
  const bool written = write_whole(fd, bytes, synchronised);
  if (close(fd) == 0 && written) return name;
  unlink(name.c_str());
  return {};
}

// The same without a name, where the file system has such files: whether it became `token`. Empty
// if that is not known.
std::optional<bool> link_nameless(const std::filesystem::path& directory,
                                  const std::filesystem::path& token,
                                  std::span<const std::byte> bytes, bool synchronised) {
  const int fd = open(directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return {};
  std::optional<bool> linked;
  if (write_whole(fd, bytes, synchronised)) {
    const std::string file = fmt::format("/proc/self/fd/{}", fd);
    const int result = linkat(AT_FDCWD, file.c_str(), AT_FDCWD, token.c_str(), AT_SYMLINK_FOLLOW);
    if (result == 0 || errno == EEXIST) linked = result == 0;
  }
  close(fd);
  return linked;
}

std::optional<Buffer> read_whole(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) return {};
  return Buffer(std::as_bytes(std::span(text)));
}

}  // namespace

FencingTokens::FencingTokens(std::filesystem::path directory, std::string run, Readers readers,
                             Drafts drafts)
    : directory_(std::move(directory)), run_(std::move(run)), readers_(readers), drafts_(drafts) {}

std::filesystem::path FencingTokens::token_of(std::uint64_t epoch) const {
  return directory_ / fmt::format("{}-{}.view", run_, epoch);
}

bool FencingTokens::superseded(Epoch epoch) const {
  std::error_code error;
  return std::filesystem::exists(token_of(epoch.value + 1), error) || other_has_begun();
}

bool FencingTokens::begin() const {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  const bool synchronised = readers_ == Readers::kOtherNodes;
  const auto draft =
      write_draft(directory_ / ".newest.", std::as_bytes(std::span(run_)), synchronised);
  if (!draft) return false;
  std::filesystem::rename(*draft, newest(), error);
  return !error;
}

// One that wrote nothing down, for want of room, supersedes nobody.
bool FencingTokens::other_has_begun() const {
  const auto name = read_whole(newest());
  return name && !std::ranges::equal(name->view(), std::as_bytes(std::span(run_)));
}

// The content is whole before the name appears, and the name appears once. Survivors wait for this.
FenceAnswer FencingTokens::take(const FenceRequest& request) const {
  if (other_has_begun()) return {request.epoch, std::nullopt};
  const auto token = token_of(request.epoch.value);
  if (link_draft(request, token)) return {request.epoch, Buffer(request.content.view())};
  return {request.epoch, read_whole(token)};
}

// False if the token is there, or cannot be made.
bool FencingTokens::link_draft(const FenceRequest& request,
                               const std::filesystem::path& token) const {
  std::error_code ignored;
  std::filesystem::create_directories(directory_, ignored);
  const bool synchronised = readers_ == Readers::kOtherNodes;
  if (drafts_ == Drafts::kNameless) {
    const auto linked = link_nameless(directory_, token, request.content.view(), synchronised);
    if (linked) return *linked;
  }
  const auto draft = write_draft(directory_ / fmt::format(".{}-{}.", run_, request.epoch.value),
                                 request.content.view(), synchronised);
  if (!draft) return false;
  const bool linked = link(draft->c_str(), token.c_str()) == 0;
  unlink(draft->c_str());
  return linked;
}

}  // namespace regroup
