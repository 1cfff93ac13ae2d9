(* OCaml: exceptions, stack overflow found by SIGSEGV, signals, fork and pipes, threads, the collector. *)
let rec deep n = if n = 0 then raise Not_found else 1 + (try deep (n - 1) with Exit -> 0)
let rec overflow n = 1 + overflow (n + 1)
let () =
  let caught = ref 0 in
  for _ = 1 to 1000 do try ignore (deep 50) with Not_found -> incr caught done;
  Printf.printf "exceptions %d\n%!" !caught;
  let over = ref 0 in
  for _ = 1 to 3 do try ignore (overflow 0) with Stack_overflow -> incr over done;
  Printf.printf "overflow %d\n%!" !over;
  (try ignore (1 / (Sys.opaque_identity 0)) with Division_by_zero -> print_endline "division");
  let got = ref 0 in
  Sys.set_signal Sys.sigusr1 (Sys.Signal_handle (fun _ -> incr got));
  for i = 1 to 20 do Unix.kill (Unix.getpid ()) Sys.sigusr1; while !got < i do ignore (Sys.opaque_identity (ref 0)) done done;
  Printf.printf "signals %d\n%!" !got;
  for i = 1 to 5 do
    match Unix.fork () with
    | 0 -> Unix._exit i
    | pid -> (match Unix.waitpid [] pid with _, Unix.WEXITED n -> Printf.printf "fork %d\n%!" n | _ -> print_endline "?")
  done;
  let ic = Unix.open_process_in "echo from the shell" in
  print_endline (input_line ic);
  ignore (Unix.close_process_in ic);
  let r, w = Unix.pipe () in
  let t = Thread.create (fun () -> for i = 1 to 1000 do ignore (Unix.write_substring w (string_of_int (i mod 10)) 0 1) done; Unix.close w) () in
  let buffer = Bytes.create 100 and total = ref 0 in
  (try while true do let n = Unix.read r buffer 0 100 in if n = 0 then raise End_of_file; total := !total + n done with End_of_file -> ());
  Thread.join t;
  Printf.printf "threads %d\n%!" !total;
  let spin = Thread.create (fun () -> let x = ref 0 in for i = 1 to 30_000_000 do x := !x lxor i done; !x |> ignore) () in
  let keep = ref [] in
  for i = 1 to 200_000 do keep := (i, string_of_int i) :: (if i mod 1000 = 0 then [] else !keep) done;
  Gc.compact ();
  Thread.join spin;
  Printf.printf "gc %d\n%!" (List.length !keep);
  ignore (Unix.setitimer Unix.ITIMER_REAL { Unix.it_interval = 0.001; it_value = 0.001 });
  let ticks = ref 0 in
  Sys.set_signal Sys.sigalrm (Sys.Signal_handle (fun _ -> incr ticks));
  while !ticks < 20 do (try Unix.sleepf 1.0 with Unix.Unix_error (Unix.EINTR, _, _) -> ()) done;
  print_endline "ticks";
  exit 3
