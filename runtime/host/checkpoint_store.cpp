#include "runtime/host/checkpoint_store.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/checkpoint_part.hpp"
#include "runtime/host/checkpoint_view.hpp"
#include "runtime/host/checkpoint_xdmf.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using namespace checkpoint_files;
using Outcome = std::expected<void, std::string>;

constexpr std::size_t kNamesMax = 1'000'000;  // in a directory of ours

Outcome make_one_directory(FileSystem& file_system, const std::filesystem::path& path) {
  if (file_system.mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) return {};
  return path_error("create", path, errno);
}

// The same file as two ranks saw it; which of its pieces they use may differ.
bool same_file(PartFile one, PartFile other) {
  for (auto* file : {&one, &other})
    for (auto& piece : file->pieces) piece.current = false;
  return to_text(CheckpointPart{{}, {std::move(one)}}) ==
         to_text(CheckpointPart{{}, {std::move(other)}});
}

std::expected<std::vector<PartFile>, std::string> merged_files(
    const std::vector<CheckpointPart>& parts) {
  std::map<std::string, PartFile> files;
  for (const auto& part : parts) {
    for (const auto& file : part.files) {
      const auto [there, added] = files.emplace(file.file, file);
      if (added) continue;
      if (!same_file(there->second, file))
        return std::unexpected(fmt::format("two ranks say different things of {}", file.file));
      for (std::size_t i = 0; i < file.pieces.size(); ++i)
        there->second.pieces[i].current |= file.pieces[i].current;
    }
  }
  std::vector<PartFile> merged;
  for (auto& [name, file] : files) merged.push_back(std::move(file));
  return merged;
}

// The piece that a link names, in the part file that holds it.
struct FoundPiece {
  const PartFile* file;
  std::size_t piece;
};

std::optional<FoundPiece> find_piece(const CheckpointManifest& manifest, const PieceToLink& link) {
  for (const auto& file : manifest.files)
    for (std::size_t i = 0; i < file.pieces.size(); ++i) {
      const auto& piece = file.pieces[i];
      if (piece.current && piece.dataset == link.dataset && piece.first_row == link.first_row)
        return FoundPiece{&file, i};
    }
  return std::nullopt;
}

std::string first_problem(const CheckpointVerification& verification) {
  const auto& problem = verification.problems.front();
  const auto count = verification.problems.size();
  return fmt::format("{}: {}{}", problem.file, problem.reason,
                     count == 1 ? "" : fmt::format("; {} problems in all", count));
}

// That the system was in the way is not to be taken for damage by whoever reads of it.
PassedOver passed_over(CheckpointNumber number, CheckpointRefusal refusal) {
  if (refusal.state == CheckpointState::kUnreadable)
    refusal.reason = fmt::format("unreadable: {}", refusal.reason);
  return {number, refusal.state, std::move(refusal.reason)};
}

}  // namespace

CheckpointStore::CheckpointStore(const std::filesystem::path& run_directory, std::string run,
                                 FileSystem& file_system)
    : run_directory_(run_directory),
      directory_(run_directory / kDirectory),
      run_(std::move(run)),
      file_system_(&file_system) {
  REGROUP_CHECK(is_run_name(run_), "a run's name is printable and not too long");
}

std::filesystem::path CheckpointStore::directory_of(CheckpointNumber checkpoint) const {
  return directory_ / directory_name(checkpoint);
}

// Newest first.
std::expected<std::vector<CheckpointNumber>, std::string> CheckpointStore::numbers() const {
  const auto names = names_in_directory(*file_system_, directory_, kNamesMax);
  if (!names && names.error() == ENOENT) return std::vector<CheckpointNumber>();
  if (!names) return path_error("read", directory_, names.error());
  std::vector<CheckpointNumber> numbers;
  for (const auto& name : *names)
    if (const auto number = number_of(name)) numbers.push_back(*number);
  std::ranges::sort(numbers, std::greater<>());
  return numbers;
}

std::expected<CheckpointNumber, std::string> CheckpointStore::next_number() const {
  const auto used = numbers();
  if (!used) return std::unexpected(used.error());
  return CheckpointNumber{used->empty() ? 1 : used->front().value + 1};
}

// ---- Parts ----

Outcome CheckpointStore::make_directory(CheckpointNumber checkpoint) const {
  if (auto done = make_one_directory(*file_system_, directory_); !done) return done;
  return make_one_directory(*file_system_, directory_of(checkpoint));
}

std::expected<CheckpointPart, std::string> CheckpointStore::write_part(
    const PartRequest& request) const {
  if (auto done = make_directory(request.checkpoint); !done) return std::unexpected(done.error());
  CheckpointPart part{request.rank, {}};
  if (auto done = link_parts(request, part); !done) return std::unexpected(done.error());
  // Last, since it syncs the directory.
  auto own = write_part_file(*file_system_, directory_of(request.checkpoint), run_, request);
  if (!own) return std::unexpected(own.error());
  part.files.push_back(std::move(*own));
  return part;
}

Outcome CheckpointStore::link_parts(const PartRequest& request, CheckpointPart& part) const {
  std::map<CheckpointNumber, Checkpoint> earlier;
  for (const auto& link : request.links) {
    auto from = earlier.find(link.checkpoint);
    if (from == earlier.end()) {
      auto opened = open(link.checkpoint);
      if (!opened)
        return std::unexpected(fmt::format("cannot link to checkpoint {}: {}",
                                           link.checkpoint.value, opened.error().reason));
      from = earlier.emplace(link.checkpoint, std::move(*opened)).first;
    }
    const auto found = find_piece(from->second.manifest(), link);
    if (!found)
      return std::unexpected(fmt::format("checkpoint {} has no piece of '{}' at row {}",
                                         link.checkpoint.value, link.dataset, link.first_row));
    auto linked = link_part(*found->file, link.checkpoint, request.checkpoint, part);
    if (!linked) return std::unexpected(linked.error());
    (*linked)->pieces[found->piece].current = true;
  }
  return {};
}

// A hard link: the new checkpoint's directory then holds all its bytes, whatever becomes of the
// earlier one. Another rank may have made the link already.
std::expected<PartFile*, std::string> CheckpointStore::link_part(const PartFile& earlier,
                                                                 CheckpointNumber from,
                                                                 CheckpointNumber to,
                                                                 CheckpointPart& part) const {
  const auto name = part_name(earlier.rank, earlier.written_in, to);
  const auto there = std::ranges::find(part.files, name, &PartFile::file);
  if (there != part.files.end()) return &*there;
  if (earlier.written_in >= to)
    return std::unexpected(
        fmt::format("checkpoint {} is not earlier than {}", from.value, to.value));
  const auto old_path = directory_of(from) / earlier.file;
  const auto new_path = directory_of(to) / name;
  if (file_system_->link(old_path.c_str(), new_path.c_str()) != 0 && errno != EEXIST)
    return path_error("link", new_path, errno);
  PartFile& linked = part.files.emplace_back(earlier);
  linked.file = name;
  for (auto& piece : linked.pieces) piece.current = false;
  return &linked;
}

// ---- Sealing ----

std::expected<CheckpointManifest, std::string> CheckpointStore::seal(
    const SealRequest& request, const MaySeal& may_seal) const {
  const auto directory = directory_of(request.checkpoint);
  const auto refuse = [&](std::string_view problem) {
    return std::unexpected(fmt::format("cannot seal {}: {}", directory.string(), problem));
  };
  auto files = merged_files(request.parts);
  if (!files) return refuse(files.error());
  CheckpointManifest manifest{
      run_, request.checkpoint, request.epoch, request.facts, std::move(*files), {}, {}};
  if (const auto problem = problem_with(manifest); !problem.empty()) return refuse(problem);
  if (auto done = check_not_sealed(request.checkpoint); !done) return refuse(done.error());
  if (auto done = check_parts(manifest); !done) return refuse(done.error());
  auto view = write_view(*file_system_, directory, manifest);
  if (!view) return std::unexpected(view.error());
  manifest.view = std::move(*view);
  if (has_grids(manifest)) {
    auto xdmf = write_xdmf(*file_system_, directory, manifest);
    if (!xdmf) return std::unexpected(xdmf.error());
    manifest.xdmf = std::move(*xdmf);
  }
  if (auto done = publish_manifest(manifest, may_seal); !done) return std::unexpected(done.error());
  return manifest;
}

// Its own number is settled by who creates the manifest; this keeps a late one from coming in
// behind a newer one.
Outcome CheckpointStore::check_not_sealed(CheckpointNumber checkpoint) const {
  const auto used = numbers();
  if (!used) return std::unexpected(used.error());
  for (const auto number : *used) {
    if (number < checkpoint) break;
    struct stat status {};
    if (file_system_->lstat((directory_of(number) / kManifest).c_str(), &status) == 0)
      return std::unexpected(
          fmt::format("checkpoint {} is sealed; take the next number", number.value));
    if (errno != ENOENT) return path_error("look at", directory_of(number) / kManifest, errno);
  }
  return {};
}

Outcome CheckpointStore::check_parts(const CheckpointManifest& manifest) const {
  for (const auto& part : manifest.files) {
    const auto path = directory_of(manifest.checkpoint) / part.file;
    const auto file = open_regular(*file_system_, path);
    if (!file) return std::unexpected(file.error().reason);
    std::string identity(kIdentityBytes, '\0');
    const int error_number = read_at(*file_system_, file->descriptor.get(),
                                     std::as_writable_bytes(std::span(identity)), 0);
    if (error_number != 0) return path_error("read", path, error_number);
    if (const auto problem = identity_problem(run_, part, identity))
      return std::unexpected(fmt::format("{}: {}", path.string(), *problem));
    if (file->bytes != part.bytes)
      return std::unexpected(
          fmt::format("{}: it has {} bytes, not {}", path.string(), file->bytes, part.bytes));
  }
  return {};
}

// Everything that the manifest speaks of is durable before it has its name.
Outcome CheckpointStore::publish_manifest(const CheckpointManifest& manifest,
                                          const MaySeal& may_seal) const {
  const auto directory = directory_of(manifest.checkpoint);
  const auto path = directory / kManifest;
  const std::filesystem::path temporary = path.string() + std::string(kTemporarySuffix);
  const std::string text = to_text(manifest);
  if (text.size() > CheckpointLimits::manifest_bytes_max)
    return std::unexpected(fmt::format("cannot seal {}: its manifest has more than {} bytes",
                                       directory.string(), CheckpointLimits::manifest_bytes_max));
  for (const auto& synced : {directory, directory_, run_directory_})
    if (auto done = sync_directory(*file_system_, synced); !done) return done;
  // Whatever has the temporary name is another writer's, and stays.
  auto done = write_durably(*file_system_, temporary, text, Existing::kRefused);
  if (!done) return done;
  if (!may_seal(manifest.epoch))
    done = std::unexpected(fmt::format("cannot seal {}: others go on in an epoch after {}",
                                       directory.string(), manifest.epoch.value));
  if (done) done = publish(*file_system_, temporary, path);
  if (!done) {
    file_system_->unlink(temporary.c_str());
    return done;
  }
  return sync_directory(*file_system_, directory);
}

// ---- Looking ----

std::expected<Checkpoint, CheckpointRefusal> CheckpointStore::open(
    CheckpointNumber checkpoint) const {
  return Checkpoint::open(directory_of(checkpoint), checkpoint, run_, *file_system_);
}

std::optional<Checkpoint> CheckpointStore::open_newest_before(CheckpointNumber checkpoint) const {
  const auto used = numbers();
  if (!used) return {};
  for (const auto number : *used) {
    if (number >= checkpoint) continue;
    if (auto opened = open(number)) return std::move(*opened);
  }
  return {};
}

std::expected<std::vector<CheckpointEntry>, std::string> CheckpointStore::list() const {
  const auto used = numbers();
  if (!used) return std::unexpected(used.error());
  std::vector<CheckpointEntry> entries;
  for (const auto number : *used) {
    auto opened = open(number);
    if (opened)
      entries.push_back({number, CheckpointState::kSealed, {}, opened->manifest()});
    else
      entries.push_back({number, opened.error().state, opened.error().reason, std::nullopt});
  }
  return entries;
}

CheckpointVerification CheckpointStore::verify(CheckpointNumber checkpoint) const {
  const auto opened = open(checkpoint);
  if (opened) return opened->verify();
  CheckpointVerification verification;
  verification.problems.push_back({std::string(kManifest), opened.error().reason,
                                   opened.error().state == CheckpointState::kUnreadable});
  return verification;
}

std::expected<NewestValid, std::string> CheckpointStore::open_newest_valid() const {
  const auto used = numbers();
  if (!used) return std::unexpected(used.error());
  NewestValid newest;
  for (const auto number : *used) {
    auto opened = open(number);
    if (!opened) {
      newest.passed_over.push_back(passed_over(number, std::move(opened.error())));
      continue;
    }
    const auto verification = opened->verify();
    if (verification.valid()) {
      newest.checkpoint = std::move(*opened);
      return newest;
    }
    newest.passed_over.push_back(passed_over(
        number,
        {verification.only_unreadable() ? CheckpointState::kUnreadable : CheckpointState::kDamaged,
         fmt::format("{}: {}", directory_of(number).string(), first_problem(verification))}));
  }
  return newest;
}

// ---- Removing ----

std::expected<Removal, std::string> CheckpointStore::retain(std::size_t keep) const {
  REGROUP_CHECK(keep >= 2, "at least two checkpoints are kept");
  const auto entries = list();
  if (!entries) return std::unexpected(entries.error());
  Removal removal;
  std::size_t sealed = 0;
  for (const auto& entry : *entries) {
    bool removed = false;  // an unreadable one may be right
    if (entry.state == CheckpointState::kSealed) removed = ++sealed > keep;
    if (entry.state == CheckpointState::kUnfinished) removed = sealed > 0;
    if (entry.state == CheckpointState::kDamaged) removed = sealed >= keep;
    if (!removed) continue;
    if (auto done = remove(entry.checkpoint); done)
      removal.removed.push_back(entry.checkpoint);
    else
      removal.problems.push_back(done.error());
  }
  return removal;
}

// The manifest first, durably: what is removed by halves never looks whole.
Outcome CheckpointStore::remove(CheckpointNumber checkpoint) const {
  const auto directory = directory_of(checkpoint);
  const auto manifest = directory / kManifest;
  if (file_system_->unlink(manifest.c_str()) == 0) {
    if (auto done = sync_directory(*file_system_, directory); !done) return done;
  } else if (errno != ENOENT) {
    return path_error("remove", manifest, errno);
  }
  const auto names = names_in_directory(*file_system_, directory, kNamesMax);
  if (!names) return path_error("read", directory, names.error());
  for (const auto& name : *names)
    if (is_own_name(name) && file_system_->unlink((directory / name).c_str()) != 0 &&
        errno != ENOENT)
      return path_error("remove", directory / name, errno);
  if (file_system_->rmdir(directory.c_str()) != 0) return path_error("remove", directory, errno);
  return {};
}

}  // namespace regroup
