/* Founding: may two electorates that share a voter both stand?

   Up to F foundings are proposed, each by the first of the voters it names,
   in any order. A message is delivered at any later time, again, or never.
   Nodes restart at any time and keep what is on disk.

   Two simplifications make the model weaker, never safer. Numbers (Founding.N)
   are left out: they keep rivals from taking turns for ever, but what makes a
   replacement safe is the proof. And a proof, once some voter has given it, is
   known to everybody.

   Each macro removes one rule; see README.md. Without any of them the model
   has the rules of founding.go. */

#ifndef F
#define F 3
#endif
#ifdef FOUR
/* 1: {0}   2: {1,2,3}   3: {3}   4: {2,3}   by the first each */
#define NN 4
#define voters(f)   ((f)==1 -> 1 : ((f)==2 -> 14 : ((f)==3 -> 8 : 12)))
#define proposer(f) ((f)==1 -> 0 : ((f)==2 -> 1 : ((f)==3 -> 3 : 2)))
#else
/* 1: {0,2}   2: {1,2}   3: {0,1}   4: {0,2} again   by the first each */
#define NN 3
#define voters(f)   ((f)==2 -> 6 : ((f)==3 -> 3 : 5))
#define proposer(f) ((f)==2 -> 1 : 0)
#endif
#define names(f,n)  ((voters(f) >> (n)) & 1)
#define bit(f)      (1 << (f))

/* of each node; 0: none */
byte elected[NN];     /* the founding it follows, on disk */
byte pending[NN];     /* the one it has decided on, not on disk yet */
byte accepted[NN];    /* FoundingState.Accepted, on disk */
byte refused[NN];     /* FoundingState.Refused, on disk: a set */
byte mine[NN];        /* founding.mine, in memory */

/* messages: sets of foundings, and for each founding sets of nodes */
byte proposed;        /* a Found was sent */
byte told;            /* a Committed was sent */
byte acks[F+1];       /* who said that it accepted it; the proposer may hear late, and so decide late */
byte proof;           /* foundings of which a named voter said: never */
byte stands;          /* decided */

inline follow(n, f) {
  elected[n] = f; pending[n] = 0; mine[n] = 0; accepted[n] = 0; refused[n] = 0;
  stands = stands | bit(f); told = told | bit(f);
  i = 1;
  do
  :: i <= F -> assert(!(i != f && (stands & bit(i)) && (voters(i) & voters(f)))); i++
  :: else -> break
  od
}

inline refuse(n, f) {  /* n says that it will never accept f */
  if :: names(f, n) -> proof = proof | bit(f) :: else fi
}

inline accept(n, f) {
  accepted[n] = f; acks[f] = acks[f] | (1<<n);
#ifdef PROPOSER_FIRST /* then the last to accept can tell that it stands */
  if :: acks[f] == voters(f) -> follow(n, f) :: else fi
#endif
}

inline onFound(n, f) {
  if
  :: elected[n] == f || pending[n] != 0 -> skip               /* answers wait for the disk */
  :: elected[n] != 0 && elected[n] != f && pending[n] == 0 -> refuse(n, f)
  :: else ->
     if
     :: mine[n] == f -> skip
     :: mine[n] != f && (!names(f, n) || (refused[n] & bit(f)) || proposer(f) == n) -> refuse(n, f)
     :: else ->
        if
        :: mine[n] != 0 && n < proposer(f) -> skip          /* the rival's proposer comes first */
        :: else ->
           mine[n] = 0;
           if
           :: accepted[n] == 0 || accepted[n] == f -> accept(n, f)
#ifdef REPLACED_UNPROVEN
           :: else -> accept(n, f)
#else
           :: accepted[n] != 0 && accepted[n] != f && (proof & bit(accepted[n])) -> accept(n, f)
           :: else -> skip                                   /* Rival: the one accepted */
#endif
           fi
        fi
     fi
  fi
}

inline onRefuse(n, f) {
  if
  :: elected[n] == f || pending[n] != 0 -> skip               /* answers wait for the disk */
  :: elected[n] != 0 && elected[n] != f && pending[n] == 0 -> refuse(n, f)
#ifndef REFUSED_THOUGH_ACCEPTED
  :: elected[n] == 0 && pending[n] == 0 && accepted[n] == f -> skip   /* too late: it may stand */
#endif
  :: else ->
     if
     :: mine[n] == f -> mine[n] = 0
     :: else ->
#ifndef REFUSAL_FORGOTTEN
        refused[n] = refused[n] | bit(f);
#endif
        skip
     fi;
     refuse(n, f)
  fi
}

inline onCommitted(n, f) {
  if
  :: elected[n] != 0 || pending[n] != 0 -> skip
#ifndef LEARNED_THOUGH_ACCEPTED
  :: elected[n] == 0 && pending[n] == 0 && accepted[n] != 0 && accepted[n] != f && !(voters(accepted[n]) & voters(f)) -> skip
#endif
  :: else -> follow(n, f)
  fi
}

inline anyNode() { n = 0; do :: n < NN-1 -> n++ :: break od }
inline anyFounding() { f = 1; do :: f < F -> f++ :: break od }

active proctype World() {
  byte n; byte f; byte i;
  do
  :: atomic { anyFounding(); n = proposer(f);
       if
       :: !(proposed & bit(f)) && elected[n] == 0 && pending[n] == 0 && accepted[n] == 0 && mine[n] == 0 ->
          mine[n] = f; proposed = proposed | bit(f);
#ifdef PROPOSER_FIRST
          acks[f] = 1<<n
#endif
       :: else
       fi; n = 0; f = 0; i = 0 }

  :: atomic { anyNode(); anyFounding();
       if :: proposed & bit(f) -> onFound(n, f) :: else fi; n = 0; f = 0; i = 0 }

  :: atomic { anyNode(); f = mine[n];                       /* all others have accepted: decide */
       if
       :: f != 0 && (acks[f] | (1<<n)) == voters(f) ->
#ifdef TOLD_BEFORE_DISK
          told = told | bit(f);
#endif
          pending[n] = f; mine[n] = 0
       :: else
       fi; n = 0; f = 0; i = 0 }

  :: atomic { anyNode(); if :: pending[n] != 0 -> f = pending[n]; follow(n, f) :: else fi; n = 0; f = 0; i = 0 }

  :: atomic { anyNode(); anyFounding();                     /* FoundAck or RefuseAck: never */
       if
       :: proof & bit(f) ->
          if :: accepted[n] == f -> accepted[n] = 0 :: mine[n] == f -> mine[n] = 0 :: else fi
       :: else
       fi; n = 0; f = 0; i = 0 }

  :: atomic { anyNode(); anyFounding();                     /* a rival's proposer asks it to refuse */
       if :: proposed & bit(f) -> onRefuse(n, f) :: else fi; n = 0; f = 0; i = 0 }

  :: atomic { anyNode(); anyFounding();
       if :: told & bit(f) -> onCommitted(n, f) :: else fi; n = 0; f = 0; i = 0 }

  :: atomic { anyNode(); mine[n] = 0; n = 0 }               /* it gives up its own */

  :: atomic { anyNode(); mine[n] = 0; pending[n] = 0;       /* a node restarts */
#ifdef ACCEPTANCE_FORGOTTEN
       accepted[n] = 0;
#endif
       n = 0 }

#ifdef DISK_LOST                                            /* and its new instance passes for the old one */
  :: atomic { anyNode(); elected[n] = 0; pending[n] = 0; accepted[n] = 0; refused[n] = 0; mine[n] = 0; n = 0 }
#endif
  od
}
